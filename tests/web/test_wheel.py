"""The installed package serves its pages: templates and assets are in the wheel."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
    import sys
    from pathlib import Path
    from fastapi.testclient import TestClient
    import plaudit
    from plaudit.feedback.project import create_project
    from plaudit.web.app import create_app

    assert Path(plaudit.__file__).is_relative_to(sys.argv[1]), plaudit.__file__
    created = create_project(Path(sys.argv[2]), "Installed")
    client = TestClient(create_app(created.project), base_url="http://127.0.0.1", headers={"Origin": "http://127.0.0.1"})
    owner = {"email": "ann@example.org", "display_name": "Ann", "password": "correct horse battery staple"}
    assert client.post(created.invite_path, data=owner).status_code == 200
    pages = "/ /guidelines /history /profile /profile/groups /qualification /profile/data /api/openapi.json".split()
    assets = [path.name for path in (Path(plaudit.__file__).parent / "web" / "static").iterdir()]
    assert {"plaudit.css", "page.js", "work.js", "draft.js", "lease.js", "icon.svg"} <= set(assets)
    for path in [*pages, *(f"/static/{name}" for name in assets)]:
        answer = client.get(path)
        assert answer.status_code == 200 and answer.content, path
    assert client.get("/nowhere").status_code == 404
    print("served", len(pages) + len(assets))
"""


@pytest.mark.slow
def test_the_wheel_serves_every_page(tmp_path: Path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed, so no wheel can be built: pip install hatchling")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    built, installed = tmp_path / "built", tmp_path / "installed"
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(built), str(ROOT)]
    subprocess.run(build, check=True, cwd=tmp_path)
    [wheel] = built.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(installed), str(wheel)], check=True)
    # Before everything else on the path, and away from the checkout: only what the wheel brings can be found.
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(installed), str(tmp_path / "project")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "served" in done.stdout
