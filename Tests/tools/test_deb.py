"""The Debian package: what is in it, what its scripts do, and that the program runs from it."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

from clickhouse_fixture import ROOT
from service_fixture import BINARY

DEB = os.path.join(ROOT, "tools/deb")
SCRIPTS = ("postinst", "prerm", "postrm")


def run(*command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@unittest.skipUnless(os.access(BINARY, os.X_OK), "no debug build")
@unittest.skipUnless(shutil.which("dpkg-deb") and shutil.which("dpkg-shlibdeps"), "no dpkg-dev")
class PackageTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="deb-test-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        # The debug build takes the Swift runtime from where the toolchain is.
        command = (DEB, "--binary", BINARY, "--foreign-libraries", "--compression", "none", "--output", cls.folder)
        built = run(*command, env=os.environ | {"SOURCE_DATE_EPOCH": "1750000000", "DEBEMAIL": "me@my.example"})
        if built.returncode != 0:
            raise AssertionError(built.stderr)
        [name] = [name for name in os.listdir(cls.folder) if name.endswith(".deb")]
        cls.package = os.path.join(cls.folder, name)
        cls.control = os.path.join(cls.folder, "control")
        subprocess.run(["dpkg-deb", "--control", cls.package, cls.control], check=True)

    def test_what_dpkg_is_told(self):
        fields = run("dpkg-deb", "--field", self.package).stdout
        version = run(BINARY, "--version").stdout.strip()
        self.assertIn(f"Version: {version}\n", fields)
        self.assertIn("Maintainer: ingestd maintainers <me@my.example>\n", fields)
        depends = re.search(r"^Depends: (.*)$", fields, re.MULTILINE)[1]
        for package in ("libc6", "librdkafka1", "liblmdb0", "libcurl4", "adduser"):
            self.assertIn(package, depends)
        with open(os.path.join(self.control, "conffiles")) as conffiles:
            self.assertEqual(conffiles.read(), "/etc/default/ingestd\n")
        for script in SCRIPTS:
            path = os.path.join(self.control, script)
            self.assertTrue(os.access(path, os.X_OK))
            checked = run("sh", "-n", path)
            self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_what_is_in_it(self):
        listing = run("dpkg-deb", "--contents", self.package, env=os.environ | {"TZ": "UTC"}).stdout
        files = {}
        for line in listing.splitlines():
            mode, owner, _, day, _, path = line.split(None, 5)
            self.assertEqual((owner, day), ("root/root", "2025-06-15"), line)
            files[path[1:]] = mode
        self.assertEqual(files["/usr/bin/ingestd"], "-rwxr-xr-x")
        documents = "/usr/share/doc/ingestd"
        for path in (
            "/usr/lib/systemd/system/ingestd.service", "/etc/default/ingestd", "/usr/share/man/man1/ingestd.1.gz",
            "/usr/lib/ingestd/schema/001_events.sql", "/usr/lib/ingestd/schema/cluster/001_events.sql",
            f"{documents}/copyright", f"{documents}/changelog.gz", f"{documents}/README.md",
            f"{documents}/docs/install.md",
        ):  # fmt: skip
            self.assertEqual(files.get(path), "-rw-r--r--", path)

    def test_it_is_installed_and_runs(self):
        root = os.path.join(self.folder, "root")
        database = os.path.join(root, "var/lib/dpkg")
        for name in ("info", "updates"):
            os.makedirs(os.path.join(database, name))
        for name in ("status", "available"):
            open(os.path.join(database, name), "w").close()
        if os.geteuid() == 0:
            # Not configured: its scripts would make a user here. They have a test of their own.
            # Without a log of its own dpkg would write to the machine's.
            log = f"--log={self.folder}/dpkg.log"
            unpacked = run("dpkg", f"--root={root}", "--force-not-root", log, "--no-triggers", "--unpack", self.package)
            self.assertEqual(unpacked.returncode, 0, unpacked.stderr)
            status = run("dpkg-query", f"--admindir={database}", "--show", "--showformat=${Status}", "ingestd").stdout
            self.assertEqual(status, "install ok unpacked")
        else:
            subprocess.run(["dpkg-deb", "--extract", self.package, root], check=True)
        program = os.path.join(root, "usr/bin/ingestd")
        self.assertEqual(run(program, "--version").stdout, run(BINARY, "--version").stdout)
        if os.geteuid() == 0:
            # The settings get their name when the package is configured.
            os.rename(os.path.join(root, "etc/default/ingestd.dpkg-new"), os.path.join(root, "etc/default/ingestd"))
            damaged = run("dpkg", f"--root={root}", "--verify", "ingestd").stdout.splitlines()
            self.assertEqual([line for line in damaged if not line.endswith("/etc/default/ingestd")], [])
        # What the settings' file suggests is a configuration without errors and without unknown names.
        with open(os.path.join(root, "etc/default/ingestd")) as file:
            offered = dict(re.findall(r"^#([A-Z_]+)=(.*)$", file.read(), re.MULTILINE))
        self.assertGreater(len(offered), 20)
        for name in [name for name, value in offered.items() if value.startswith(("/run/", "/etc/"))]:
            offered[name] = os.path.join(self.folder, name)
            with open(offered[name], "w") as file:
                file.write("client.id=a" if name == "KAFKA_PROPERTIES_FILE" else "secret")
        checked = run(program, "config", "check", env={"PATH": os.environ["PATH"], **offered})
        self.assertEqual((checked.returncode, checked.stderr), (0, ""), checked.stdout)

    def test_the_manual_page(self):
        root = os.path.join(self.folder, "manual")
        subprocess.run(["dpkg-deb", "--extract", self.package, root], check=True)
        page = run("gzip", "-dc", os.path.join(root, "usr/share/man/man1/ingestd.1.gz")).stdout
        self.assertIn(".SS ingestd dead\\-letters retry", page)
        for setting in re.findall(r"^\| `([A-Z_]+)` \|", run(BINARY, "config", "reference").stdout, re.MULTILINE):
            self.assertIn(f"\n.B {setting}\n", page)
        if shutil.which("groff"):
            shown = run("groff", "-man", "-Tutf8", "-ww", "-z", input=page)
            self.assertEqual((shown.returncode, shown.stderr), (0, ""))

    def test_a_program_with_libraries_of_no_package_is_refused(self):
        if "/swift/" not in run("ldd", BINARY).stdout:
            self.skipTest("this build has the Swift runtime in it")
        refused = run(DEB, "--binary", BINARY, "--output", self.folder)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("libswiftCore.so", refused.stderr)
        self.assertIn("--static-swift-stdlib", refused.stderr)

    def run_script(self, name: str, *arguments: str, **variables: str) -> tuple[list[str], str]:
        """Runs a script where every command but a few is a stand-in; returns what was called, and what it said."""
        tools = tempfile.mkdtemp(dir=self.folder)
        calls = os.path.join(tools, "calls")
        # No user of that name, and a service that was never disabled.
        for tool, result in {
            "getent": 2, "adduser": 0, "deb-systemd-helper": 0, "deb-systemd-invoke": 0, "systemctl": 0,
        }.items():  # fmt: skip
            with open(os.path.join(tools, tool), "w") as script:
                script.write(f'#!/bin/sh\necho {tool} "$@" >>{calls}\nexit {result}\n')
            os.chmod(os.path.join(tools, tool), 0o755)
        for tool in ("rm", "rmdir"):
            os.symlink(shutil.which(tool), os.path.join(tools, tool))
        open(calls, "w").close()
        environment = {"PATH": tools, "DPKG_ROOT": os.path.join(tools, "root"), **variables}
        path = os.path.join(self.control, name)
        ran = run("/bin/sh", path, *arguments, env=environment)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        with open(calls) as file:
            return file.read().splitlines(), ran.stderr

    def test_installation_makes_the_user_and_enables_the_service(self):
        calls, _ = self.run_script("postinst", "configure", "")
        self.assertTrue(any(call.startswith("adduser --system --group") for call in calls), calls)
        self.assertIn("deb-systemd-helper enable ingestd.service", calls)
        self.assertNotIn("deb-systemd-helper enable ingestd.service", self.run_script("postinst", "triggered", "")[0])

    def test_the_journal_outlives_the_package(self):
        def purge(**variables: str) -> tuple[bool, str]:
            root = tempfile.mkdtemp(dir=self.folder)
            journal = os.path.join(root, "var/lib/ingestd/journal")
            os.makedirs(journal)
            for arguments in (["remove"], ["purge"]):
                _, said = self.run_script("postrm", *arguments, DPKG_ROOT=root, **variables)
            return os.path.exists(journal), said

        is_kept, said = purge()
        self.assertTrue(is_kept)
        self.assertIn("var/lib/ingestd", said)
        self.assertEqual(purge(INGESTD_PURGE_JOURNAL="yes"), (False, ""))


if __name__ == "__main__":
    unittest.main()
