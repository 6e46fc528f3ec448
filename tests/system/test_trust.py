"""The authority for development certificates: made once, accepted where it was installed, and by real browsers."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import sync_playwright
from test_chromium import CHROMIUM, FLAGS

from harness import Server
from harness.server import APPS, PROGRAM

CERTUTIL = shutil.which("certutil")


def trust(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `monoceros trust` for a user with this home, who finds only the tools of `home/bin`."""
    environment = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "PATH": str(home / "bin")}
    command = [str(PROGRAM), "trust", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def serving(home: Path, *arguments: str) -> Server:
    environment = {"PYTHONPATH": str(APPS), "XDG_DATA_HOME": str(home / "data")}
    return Server(
        "plain_wsgi:app", "--dev-cert", *arguments, binds=["https://127.0.0.1:0"], cwd=home, env=environment
    )


def test_whoever_knows_the_authority_accepts_its_certificates(tmp_path: Path) -> None:
    printed = trust(tmp_path, "print")
    assert printed.returncode == 0 and printed.stdout.startswith("-----BEGIN CERTIFICATE-----"), printed
    path = Path(trust(tmp_path, "print", "--path").stdout.strip())
    assert path.read_text() == printed.stdout and path.is_relative_to(tmp_path / "data")
    context = ssl.create_default_context(cadata=printed.stdout)
    with serving(tmp_path, "--dev-name", "shop.localhost") as server:
        for host in ("localhost", "127.0.0.1"):
            url = server.https_url.replace("127.0.0.1", host)
            assert httpx.get(url, verify=context).text == "hello"
        with pytest.raises(httpx.ConnectError, match=r"self-signed|unable to get local issuer"):
            httpx.get(server.https_url)


def test_a_name_of_the_internet_is_refused(tmp_path: Path) -> None:
    command = [str(PROGRAM), "plain_wsgi:app", "--dev-cert", "--dev-name", "example.com"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2 and "example.com" in refused.stderr and "private network" in refused.stderr


def test_without_tools_it_says_what_to_do(tmp_path: Path) -> None:
    """Nothing was changed, so it does not claim success."""
    (tmp_path / "bin").mkdir()
    told = trust(tmp_path, "install")
    assert told.returncode == 1, told
    assert "certutil is not installed" in told.stdout and "authority.pem" in told.stdout, told
    nothing = trust(tmp_path / "nobody", "uninstall")
    assert nothing.returncode == 1 and "there is no authority" in nothing.stderr


@pytest.mark.skipif(not (CHROMIUM and CERTUTIL), reason="Chromium or certutil is not installed")
def test_chromium_opens_it_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "certutil").symlink_to(str(CERTUTIL))
    strict = [flag for flag in FLAGS if flag != "--ignore-certificate-errors"]
    environment = {**os.environ, "HOME": str(tmp_path)}

    def opened(url: str) -> str:
        """What the browser shows, or its error."""
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=strict, env=environment, timeout=90_000
            )
            page = browser.new_page()
            try:
                page.goto(url)
                return page.inner_text("body")
            except Exception as error:
                return str(error)
            finally:
                browser.close()

    with serving(tmp_path) as server:
        url = server.https_url.replace("127.0.0.1", "localhost")
        assert "ERR_CERT_AUTHORITY_INVALID" in opened(url)
        installed = trust(tmp_path, "install")
        assert installed.returncode == 0 and "Chromium and its kin: accepts it now" in installed.stdout, installed
        assert opened(url) == "hello"
        removed = trust(tmp_path, "uninstall")
        assert removed.returncode == 0 and "Chromium and its kin: accepts it no longer" in removed.stdout, removed
