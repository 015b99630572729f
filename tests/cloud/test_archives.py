"""What is handed out: the images and the release archive."""

import json
import subprocess
import tarfile

from rig import ROOT, TARGET, run


def test_an_image_has_its_program_its_libraries_and_nothing_to_break_in_with():
    for name, programs in (("edge-signal", ["edge-signal", "sluice"]), ("sfu-node", ["sfu-node"])):
        archive = TARGET / "images" / f"{name}.tar"
        assert archive.stat().st_size < 64 * 1024 * 1024, "small"
        with tarfile.open(archive) as image:
            read = lambda digest: image.extractfile(f"blobs/{digest.replace(':', '/')}")
            (described,) = json.load(image.extractfile("index.json"))["manifests"]
            manifest = json.load(read(described["digest"]))
            settings = json.load(read(manifest["config"]["digest"]))["config"]
            (layer,) = manifest["layers"]
            with tarfile.open(fileobj=read(layer["digest"])) as files:
                members = {member.name.lstrip("./"): member for member in files}
        assert settings["User"] == "10001:10001" and settings["Entrypoint"] == [f"/usr/bin/{name}"]
        assert settings["StopSignal"] in ("SIGTERM", "15")
        executables = {path for path in members if path.startswith("usr/bin/")}
        assert executables == {f"usr/bin/{program}" for program in programs}
        assert not any(path.rsplit("/", 1)[-1] in ("sh", "bash", "dash", "apt", "dpkg", "perl", "python3") for path in members)
        assert not [path for path, member in members.items() if member.isreg() and member.mode & 0o6000], "none that gives rights"
        assert "etc/ssl/certs/ca-certificates.crt" in members and f"usr/share/sbom/{name}.cdx.json" in members


def test_an_sbom_names_the_packages_and_crates_that_an_image_is_made_of():
    bill = json.loads((TARGET / "images/edge-signal.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    purls = {component["purl"].split("@")[0] for component in bill["components"]}
    assert {"pkg:deb/debian/libc6", "pkg:deb/debian/libssl3t64", "pkg:cargo/axum", "pkg:cargo/redis", "pkg:cargo/edge-signal"} <= purls
    assert "pkg:cargo/proptest" not in purls, "what only tests use is not in it"
    assert all(component["version"] for component in bill["components"])


def test_a_release_archive_has_what_a_plain_machine_needs(tmp_path):
    (archive,) = [run(ROOT / "deploy/release/build", tmp_path / each).stdout.strip() for each in ("one",)]
    again = run(ROOT / "deploy/release/build", tmp_path / "two").stdout.strip()
    assert open(archive, "rb").read() == open(again, "rb").read(), "the same each time"
    machine = tmp_path / "machine"
    machine.mkdir()
    run("tar", "-xzf", archive, "-C", machine)
    for program in ("edge-signal", "sfu-node", "sluice"):
        assert subprocess.run([machine / f"usr/local/bin/{program}", "--version"], capture_output=True).returncode == 0
        unit = machine / f"etc/systemd/system/{program}.service"
        assert unit.exists() == (program != "sluice")
    assert (machine / "usr/share/doc/sluice/configuration.md").exists(), "which the units name"
    assert not (machine / "etc/sluice").exists(), "nobody's settings are written over"
