import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["heartseg.opencv", "heartseg.scans.geometry", "heartseg.pipelines.prepare"]
)
def test_a_machine_without_the_libraries_of_opencv_is_told_what_to_install(tmp_path, module):
    broken = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({broken!r})\n")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport {module}"
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 1
    last = ran.stderr.strip().splitlines()[-1]
    assert f"OpenCV cannot be loaded ({broken})" in last
    assert "pip install opencv-python-headless" in last
    assert "libgl1" in last


def test_the_command_line_says_so_in_one_message(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open')\n")
    (tmp_path / "c.yaml").touch()
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"sys.argv = ['heartseg', 'prepare', {str(tmp_path / 'c.yaml')!r}]\n"
        "from heartseg.cli.app import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Error: OpenCV cannot be loaded")
    assert "Traceback" not in ran.stderr
