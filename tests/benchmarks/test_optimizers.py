"""The comparison of the optimizers prints a table with the best value of each row in bold."""

import re

from tests.benchmarks import optimizers


def test_a_row_for_each_shape_and_budget(monkeypatch, capsys):
    monkeypatch.setattr(optimizers, "TOKENIZER_DOCUMENTS", 50)
    monkeypatch.setattr(optimizers, "VOCABULARY", 300)
    monkeypatch.setattr(optimizers, "HELD_OUT", 3)
    monkeypatch.setattr(optimizers, "BATCH", 4)
    monkeypatch.setattr(optimizers, "RATES", {"adamw": (1e-3,), "muon": (1e-3, 1e-1)})
    for cached in (optimizers.tokenizer, optimizers.held_out, optimizers.rows):
        cached.cache_clear()
    optimizers.main(["--shapes", "smallest", "--budgets", "0.001", "0.002", "--seeds", "0", "1"])
    for cached in (optimizers.tokenizer, optimizers.held_out, optimizers.rows):
        cached.cache_clear()
    heading, _, *table = capsys.readouterr().out.splitlines()
    assert heading.endswith("mean of 2 seeds")
    assert table[0] == "| shape | M tokens | adamw 0.001 | muon 0.001 | muon 0.1 | seconds per step |"
    assert len(table) == 4
    for row, budget in zip(table[2:], ("0.001", "0.002"), strict=True):
        cells = row.strip("| ").split(" | ")
        assert cells[:2] == ["smallest", budget] and re.fullmatch(r"adamw \d\.\d\d, muon \d\.\d\d", cells[5])
        values = [float(cell.strip("*%")) for cell in cells[2:5]]
        assert [cell.startswith("**") for cell in cells[2:5]] == [value == min(values) for value in values]
