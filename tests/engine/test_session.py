"""Starting a cluster on demand, and refusing scripts that would start processes without end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nsdflow.engine.session import clients


def script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_script_without_the_guard_gets_one_line(tmp_path):
    done = script(
        tmp_path,
        """
        from nsdflow.engine.session import clients
        with clients("local") as get:
            get()
        """,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("nsdflow.errors.ConfigError")]
    assert "script.py, line 4: write if __name__ ==" in line
    assert 'cluster="threads"' in line


@pytest.mark.parametrize("guard", ['if __name__ == "__main__":\n    main()', "if '__main__' == __name__:\n    main()"])
def test_a_script_with_the_guard_runs(tmp_path, guard):
    text = (
        "from nsdflow.engine.session import check_main_guard\ndef main():\n    check_main_guard()\n    print('runs')\n"
    )
    (tmp_path / "script.py").write_text(f"{text}{guard}\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "runs\n"


def test_a_client_is_used_as_it_is_and_nothing_starts_unasked(threads_client):
    with clients(threads_client) as get:
        assert get() is threads_client
    with clients("no such cluster", threads_client) as get:
        assert get() is threads_client
    with clients("no such cluster"):
        pass
