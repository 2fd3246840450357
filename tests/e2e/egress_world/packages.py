"""A git server, a package index for pip, a registry for npm and a repository for apt: one small package each.

make(folder) writes them; the functions named as in app.BY_HOST answer for them.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile

from . import plan

NAME, VERSION, SAYS = "bermdemo", "1.0.0", "hello from bermdemo"
PUBLIC, PRIVATE = "public/demo.git", "private/demo.git"


def sh(folder, script):
    env = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": folder, "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t",
           "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}
    subprocess.run(["sh", "-ec", script], cwd=folder, env=env, check=True, capture_output=True)


def wheel():
    info = f"{NAME}-{VERSION}.dist-info"
    files = {f"{NAME}.py": f'print("{SAYS}")\n',
             f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n",
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    files[f"{info}/RECORD"] = "".join(f"{n},,\n" for n in [*files, f"{info}/RECORD"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, words in files.items():
            z.writestr(name, words)
    return out.getvalue()


def tarball(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, words in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(words), 0o644
            tar.addfile(info, io.BytesIO(words.encode()))
    return out.getvalue()


def npm_package():
    about = {"name": NAME, "version": VERSION, "main": "index.js"}
    return tarball({"package/package.json": json.dumps(about), "package/index.js": f'console.log("{SAYS}")\n'})


def deb():
    control = f"Package: {NAME}\nVersion: {VERSION}\nArchitecture: all\nMaintainer: t <t@t>\nDescription: a test\n"
    members = {"debian-binary": b"2.0\n", "control.tar.gz": tarball({"./control": control}),
               "data.tar.gz": tarball({f"./usr/share/{NAME}": SAYS + "\n"})}
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return control, out


def make_apt(folder):
    control, package = deb()
    name = f"pool/{NAME}_{VERSION}_all.deb"
    index = control + f"Filename: {name}\nSize: {len(package)}\nSHA256: {hashlib.sha256(package).hexdigest()}\n\n"
    inner = "main/binary-amd64/Packages"
    files = {inner: index.encode(), inner + ".gz": gzip.compress(index.encode(), mtime=0)}
    release = "Suite: test\nCodename: test\nArchitectures: amd64\nComponents: main\nSHA256:\n"
    for path, data in files.items():
        release += f" {hashlib.sha256(data).hexdigest()} {len(data)} {path}\n"
    save(folder, "apt/" + name, package)
    save(folder, "apt/dists/test/Release", release.encode())
    for path, data in files.items():
        save(folder, "apt/dists/test/" + path, data)


def save(folder, path, data):
    os.makedirs(os.path.dirname(f"{folder}/{path}"), exist_ok=True)
    with open(f"{folder}/{path}", "wb") as f:
        f.write(data)


def make(folder):
    save(folder, f"pip/{NAME}-{VERSION}-py3-none-any.whl", wheel())
    save(folder, f"npm/{NAME}-{VERSION}.tgz", npm_package())
    make_apt(folder)
    for name in (PUBLIC, PRIVATE):
        sh(folder, f"""mkdir -p git/{name}; git init -q --bare -b main git/{name}
            git -C git/{name} config http.receivepack true
            rm -rf seed; git init -q -b main seed; echo "{SAYS}" >seed/README
            head -c 300000 /dev/urandom >seed/blob
            git -C seed add .; git -C seed commit -qm first; git -C seed push -q ../git/{name} main""")


def load(folder, path):
    whole = os.path.realpath(f"{folder}/{path}")
    if not whole.startswith(os.path.realpath(folder) + "/") or not os.path.isfile(whole):
        return None
    with open(whole, "rb") as f:
        return f.read()


def file_response(folder, path, response, kind="application/octet-stream"):
    data = load(folder, path)
    return response(404, b"no such file") if data is None else response(200, data, [("content-type", kind)])


def pip(r, folder, response):
    name = f"{NAME}-{VERSION}-py3-none-any.whl"
    if r.path.rstrip("/") == f"/simple/{NAME}":
        digest = hashlib.sha256(load(folder, f"pip/{name}")).hexdigest()
        page = f'<!DOCTYPE html><html><body><a href="/files/{name}#sha256={digest}">{name}</a></body></html>'
        return response(200, page.encode(), [("content-type", "text/html")])
    if r.path.startswith("/files/") and r.method in ("GET", "HEAD"):
        return file_response(folder, "pip/" + r.path[len("/files/"):], response)
    return response(404 if r.method in ("GET", "HEAD") else 200, b"")


def npm(r, folder, response):
    if r.path == f"/{NAME}" and r.method in ("GET", "HEAD"):
        data = load(folder, f"npm/{NAME}-{VERSION}.tgz")
        digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        about = {"name": NAME, "version": VERSION, "dist": {
            "tarball": f"https://npm.world.test/{NAME}/-/{NAME}-{VERSION}.tgz", "integrity": digest}}
        page = {"name": NAME, "dist-tags": {"latest": VERSION}, "versions": {VERSION: about}}
        return response(200, json.dumps(page).encode(), [("content-type", "application/json")])
    if r.path.endswith(".tgz") and r.method in ("GET", "HEAD"):
        return file_response(folder, "npm/" + r.path.rpartition("/")[2], response)
    return response(404 if r.method in ("GET", "HEAD") else 200, b"{}", [("content-type", "application/json")])


def apt(r, folder, response):
    return file_response(folder, "apt" + r.path, response)


def allowed(r):
    """Whoever knows the token, as user or password of Basic or as Bearer."""
    scheme, _, rest = r.header("authorization").partition(" ")
    if scheme.lower() == "basic":
        return plan.TOKEN in base64.b64decode(rest).decode("latin-1").split(":")
    return rest == plan.TOKEN


def git(r, folder, response):
    """git-http-backend(1). Writing, and all of PRIVATE, wants the token."""
    write = "git-receive-pack" in r.target
    if (write or r.path.startswith("/private/")) and not allowed(r):
        return response(401, b"who are you?", [("www-authenticate", 'Basic realm="git"')])
    env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": f"{folder}/git", "GIT_HTTP_EXPORT_ALL": "1", "HOME": folder,
           "PATH_INFO": r.path, "QUERY_STRING": r.query, "REQUEST_METHOD": r.method, "REMOTE_USER": plan.USER,
           "CONTENT_TYPE": r.header("content-type"), "CONTENT_LENGTH": str(len(r.body)),
           "HTTP_CONTENT_ENCODING": r.header("content-encoding"), "GIT_PROTOCOL": r.header("git-protocol"),
           "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    got = subprocess.run(["git", "http-backend"], input=r.body, env=env, capture_output=True, check=False)
    head, _, body = got.stdout.partition(b"\r\n\r\n")
    headers = [tuple(p.strip() for p in line.split(":", 1)) for line in head.decode().split("\r\n") if ":" in line]
    status = int(next((v for k, v in headers if k.lower() == "status"), "200").split()[0])
    return response(status, body, [(k, v) for k, v in headers if k.lower() not in ("status", "content-length")])
