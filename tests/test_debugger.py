"""The debugger session of the README: from the training loop to the gradient of attention in a few frames."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FEWER_DOCUMENTS = (
    "from tinyslm.commands import training_inputs",
    "training_inputs.TOKENIZER_DOCUMENTS, training_inputs.VALIDATION_DOCUMENTS = 300, 100",
)
FRAME = re.compile(r"^[> ] (?:\(Pdb\) )?(\S+)\(\d+\)(\S+)\(\)$", re.MULTILINE)


def documented_session():
    """(arguments of python, the lines typed at the prompt) of the README."""
    readme = (ROOT / "README.md").read_text("utf-8")
    block = re.search(r"^python (-m pdb .*\n(?:\(Pdb\) .*\n)+)```", readme, re.MULTILINE).group(1)
    command, *lines = block.strip().splitlines()
    return command.split(), [line.removeprefix("(Pdb) ") for line in lines]


def run_session(out):
    """The output of the debugger for the documented session, with another output directory and a smaller corpus."""
    arguments, typed = documented_session()
    typed = [line.replace("/tmp/look", str(out)) for line in typed]
    lines = "\n".join([*FEWER_DOCUMENTS, *typed, "q", ""])
    return subprocess.run([sys.executable, *arguments], input=lines, cwd=ROOT, capture_output=True, text=True).stdout


def test_at_most_three_frames_lead_from_the_training_loop_to_the_gradient_of_attention(tmp_path):
    """The session runs the model with the definition of attention, and stops in its vector-Jacobian product.

    It does so a second time too, although the first one was left in the middle of a training.
    """
    first, second = (run_session(tmp_path / "look") for _ in range(2))
    assert (tmp_path / "look.training").is_dir()
    frames = frames_of(first)
    formula = ("tinyslm/ops/attention.py", "vjp")
    end = len(frames) - 1 - frames[::-1].index(formula)
    loop = max(i for i, (file, _) in enumerate(frames[:end]) if file == "tinyslm/training/loop.py")
    assert frames[loop + 1 : end + 1] == [
        ("tinyslm/autodiff.py", "evaluate"),
        ("tinyslm/autodiff.py", "backward"),
        formula,
    ]
    assert ("tinyslm/training/loop.py", "train") in frames
    assert re.search(r"\(Pdb\) \(5, 4, (\d+), \1\)", first), "probabilities are (B, H, T, S), and S is T in training"
    assert frames_of(second) == frames


def frames_of(output):
    """(file, function) of the frames of this repository that the debugger shows."""
    return [
        (Path(file).relative_to(ROOT).as_posix(), name)
        for file, name in FRAME.findall(output)
        if ROOT.as_posix() in file
    ]
