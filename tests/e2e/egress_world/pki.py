"""A certificate authority for one run, and the good and the bad certificates it or nobody signed."""

import os
import subprocess

from . import plan

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def openssl(folder, *argv):
    got = subprocess.run(["openssl", *argv], cwd=folder, capture_output=True, text=True, check=False)
    assert got.returncode == 0, f"openssl {argv}: {got.stderr}"


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def leaf(folder, name, subject, names, addresses=(), days="30", start=None, usage="serverAuth"):
    """NAME.pem and NAME.key in that folder. start and days may both be dates of an `openssl ca`."""
    alternatives = [f"DNS:{n}" for n in names] + [f"IP:{a}" for a in addresses]
    write(f"{folder}/{name}.ext", f"subjectAltName={','.join(alternatives)}\nbasicConstraints=CA:FALSE\n"
          f"extendedKeyUsage={usage}\nkeyUsage=digitalSignature\nauthorityKeyIdentifier=keyid\n")
    openssl(folder, "req", "-new", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}")
    if start:
        dates = ["-startdate", start, "-enddate", days]
        openssl(folder, "ca", "-batch", "-config", "ca.cnf", "-notext", "-in", f"{name}.csr",
                "-out", f"{name}.pem", "-extfile", f"{name}.ext", *dates)
    else:
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-days", days, "-extfile", f"{name}.ext", "-out", f"{name}.pem")


def make(folder):
    """ca.pem, good.pem, client.pem, NAME.pem of each bad name, each with its .key, and own-root.pem besides."""
    os.makedirs(f"{folder}/new", exist_ok=True)
    write(f"{folder}/index.txt", "")
    write(f"{folder}/serial", "1000\n")
    write(f"{folder}/ca.cnf", "[ca]\ndefault_ca=world\n[world]\ndatabase=index.txt\nserial=serial\n"
          "new_certs_dir=new\ncertificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\npolicy=any\n"
          "[any]\ncommonName=supplied\n")
    for ca in ("ca", "own-root"):
        openssl(folder, "req", "-x509", *KEY, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-days", "30",
                "-subj", f"/CN=berm test {ca}", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    leaf(folder, "good", "api.world.test", plan.GOOD_NAMES, plan.GOOD_ADDRESSES)
    leaf(folder, "client", "a client of the world", ["client.world.test"], usage="clientAuth")
    leaf(folder, "expired.world.test", "expired", ["expired.world.test"],
         start="20200101000000Z", days="20200201000000Z")
    leaf(folder, "wrong-name.world.test", "wrong", ["somebody-else.test"])
    openssl(folder, "req", "-x509", *KEY, "-keyout", "self-signed.world.test.key", "-out",
            "self-signed.world.test.pem", "-days", "30", "-subj", "/CN=self-signed.world.test",
            "-addext", "subjectAltName=DNS:self-signed.world.test")
