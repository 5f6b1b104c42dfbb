"""What deploy/ and docs/upgrade.md tell people to type exists, and the units are well formed."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import typer.main

from shopkeeper.cli import app

ROOT = Path(__file__).parents[1]
UNITS = sorted((ROOT / "deploy").glob("*.service"))


def parsed(words: list[str]) -> None:
    """Parse `shopkeeper WORDS` without running it; click's error where it cannot be typed so."""
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command, info_name="shopkeeper")
    while isinstance(command, click.Group):
        assert words, "a command is missing"
        found = command.get_command(context, words[0])
        assert found is not None, f"no command {words[0]!r}"
        command, words = found, words[1:]
    command.make_context(command.name, list(words), parent=context)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists(unit: Path) -> None:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment]
    found.read_string(unit.read_text(encoding="utf-8"))
    program, *words = shlex.split(found["Service"]["ExecStart"])
    assert program.endswith("/bin/shopkeeper")
    parsed(words)
    shop = words[words.index("--shop") + 1]
    assert found["Service"]["ReadWritePaths"] == shop


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here; apt-get install systemd")
    # the program and the user are not installed here; everything else stays as it is
    text = unit.read_text(encoding="utf-8").replace("/opt/shopkeeper/bin/shopkeeper", "/bin/true")
    (tmp_path / unit.name).write_text(re.sub(r"(?m)^(User|Group)=.*$", r"\1=root", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
    )
    about = [line for line in done.stderr.splitlines() if unit.name in line]
    assert about == [], done.stderr


def test_the_container_starts_a_command_that_exists_and_copies_what_is_there() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    assert text.startswith("# UNBUILT")
    (command,) = re.findall(r"(?m)^CMD \[(.*)\]$", text)
    parsed([word.strip().strip('"') for word in command.split(",")])
    for line in re.findall(r"(?m)^COPY (.*)$", text):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), f"COPY {source}"


def test_every_command_that_a_page_names_can_be_typed_so() -> None:
    named = 0
    for page in ("docs/upgrade.md", "docs/send-events.md", "deploy/Dockerfile"):
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
            found = re.match(r"\s*(?:# +docker run .*)?(?:\S*/)?shopkeeper ([a-z].*)$", line)
            if found:
                words = shlex.split(found[1], comments=True)
                parsed([word for word in words if not word.startswith("(")][:12])
                named += 1
    assert named >= 6


def test_the_proxy_lets_through_what_browsers_call() -> None:
    text = (ROOT / "deploy/nginx.conf").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"location ~ (\S+) \{", text)
    for path in ("/v1/search", "/v1/recommendations", "/v1/suggest", "/v1/items/i1/similar", "/static/track.js"):  # fmt: skip
        assert re.match(pattern, path), path
    for path in ("/v1/assets", "/console", "/metrics", "/v1/answers/a1", "/openapi.json"):
        assert not re.match(pattern, path), path
    assert text.count("{") == text.count("}")


def test_nginx_accepts_the_proxy(tmp_path: Path) -> None:
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        pytest.skip("no nginx here; apt-get install nginx-light openssl")
    pem = "/etc/letsencrypt/live/shopkeeper.example.com/"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout privkey.pem -out fullchain.pem"  # fmt: skip
    subprocess.run(shlex.split(make), cwd=tmp_path, check=True, capture_output=True)
    text = (ROOT / "deploy/nginx.conf").read_text(encoding="utf-8")
    text = text.replace(pem, f"{tmp_path}/").replace("/var/log/nginx", str(tmp_path))
    text = re.sub(r"listen (443|80)", r"listen 127.0.0.1:1\g<1>0", text)
    whole = f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{text}\n}}\n"
    (tmp_path / "nginx.conf").write_text(whole)
    done = subprocess.run(
        ["nginx", "-t", "-c", str(tmp_path / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
