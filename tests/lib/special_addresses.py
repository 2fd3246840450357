"""The rows of both IANA special-purpose registries as published, multicast and old embeddings, and the metadata
services of large clouds. None of it is taken from the program.
"""

# iana-ipv4-special-registry, all rows, and multicast
SPECIAL4 = """
0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24
192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24
198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 255.255.255.255/32 224.0.0.0/4
""".split()

# iana-ipv6-special-registry, all rows, and multicast, site-local, IPv4-compatible, IPv4-translated
SPECIAL6 = """
::1/128 ::/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32
2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28
2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7
fe80::/10 ff00::/8 fec0::/10 ::/96 ::ffff:0:0:0/96
""".split()

METADATA = """
169.254.169.254 169.254.170.2 169.254.170.23 169.254.0.23 169.254.42.42 168.63.129.16 100.100.100.200
192.0.0.192 fd00:ec2::254 fd00:ec2::23 fd00:ec2::253 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42
fd00:a9fe:a9fe::1 fd00:100::100:200
""".split()

METADATA_NAMES = """
metadata.google.internal metadata.goog instance-data instance-data.ec2.internal metadata.azure.internal
metadata.tencentyun.com metadata.oraclecloud.com metadata x.metadata.google.internal
""".split()
