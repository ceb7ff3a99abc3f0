"""data.py MARIADBD: makes, in the working directory, the data that an OpenStack starts with.

mariadb/ holds Octavia's and Neutron's tables; keystone.db Keystone's, with an administrator
whose password is in the file password; fernet/ and credential/ Keystone's keys.
"""
import base64
import ctypes
import os
import secrets
import signal
import subprocess
import sys
import time

import pymysql

PROGRAMS = os.path.join(os.environ["PYTHONPATH"], "bin")
PR_SET_PDEATHSIG = 1


def start(*command):
    """Starts a program that dies when this one does."""
    prctl = ctypes.CDLL(None).prctl
    return subprocess.Popen(command, preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL))


def openstack(program, *args):
    return start(sys.executable, os.path.join(PROGRAMS, program), *args)


def wait(*processes):
    for p in processes:
        if p.wait() != 0:
            sys.exit("%s: exit code %d" % (" ".join(p.args), p.returncode))


def connect(server):
    while server.poll() is None:
        try:
            return pymysql.connect(user="root", unix_socket="mariadb/mariadb.sock")
        except pymysql.err.OperationalError:
            time.sleep(0.1)
    sys.exit("mariadbd ended with exit code %d" % server.returncode)


def write(name, text):
    with open(name, "w") as f:
        f.write(text)


os.mkdir("mariadb")
flags = ["--user=root"] if os.geteuid() == 0 else []
server = start(sys.argv[1], "--no-defaults", *flags, "--datadir=" + os.path.abspath("mariadb"), "--socket=mariadb.sock",
               "--skip-networking", "--skip-grant-tables", "--skip-log-bin", "--innodb-log-file-size=8M",
               "--innodb-autoextend-increment=1", "--innodb-fast-shutdown=0", "--innodb-flush-log-at-trx-commit=0")
for name in ("octavia", "neutron"):
    write(name + ".conf", "[database]\nconnection = mysql+pymysql://root@localhost/%s?unix_socket=mariadb/mariadb.sock\n" % name)
write("keystone.conf", """[database]
connection = sqlite:///keystone.db
[fernet_tokens]
key_repository = fernet
[fernet_receipts]
key_repository = fernet
[credential]
key_repository = credential
[identity]
password_hash_rounds = 4
""")
password = secrets.token_hex(16)
write("password", password)
for repository in ("fernet", "credential"):
    os.mkdir(repository)
    for key in ("0", "1"):
        write(os.path.join(repository, key), base64.urlsafe_b64encode(os.urandom(32)).decode())
with connect(server) as connection, connection.cursor() as cursor:
    for name in ("octavia", "neutron"):
        cursor.execute("CREATE DATABASE %s CHARACTER SET utf8mb4" % name)
migrations = [openstack(name + "-db-manage", "--config-file", name + ".conf", "upgrade", "heads") for name in ("octavia", "neutron")]
for command in (["db_sync"], ["bootstrap", "--bootstrap-password", password, "--bootstrap-region-id", "RegionOne"]):
    wait(openstack("keystone-manage", "--config-file", "keystone.conf", *command))
wait(*migrations)
server.terminate()
wait(server)
for name in ("octavia.conf", "neutron.conf", "keystone.conf"):
    os.remove(name)
# Whoever shares the cache starts with the same data: nothing in it is secret.
for parent, _, names in os.walk("."):
    os.chmod(parent, 0o755)
    for name in names:
        os.chmod(os.path.join(parent, name), 0o644)
