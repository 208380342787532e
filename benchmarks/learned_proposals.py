"""Learned block proposals against single-site Gibbs and the published rivals: grids, open mixtures, named entities."""

from benchmarks.learned_proposals_entities import ner_rows
from benchmarks.learned_proposals_grids import grid_rows
from benchmarks.learned_proposals_rows import gmm_rows
from benchmarks.timing import parse_quick, print_json


def main() -> None:
    """Print each part as it is done, then all of it."""
    quick = parse_quick(__doc__ or "")
    figures: dict[str, object] = {}
    accepted = {}
    for name, rows in (("grid", grid_rows), ("gmm", gmm_rows), ("ner", ner_rows)):
        found = dict(rows(quick))
        if "acceptance" in found:
            accepted[name] = found.pop("acceptance")
        for label, value in found.items():
            print(f"{label}: {value}")
        figures |= found
    print_json(figures | {"acceptance": accepted})


if __name__ == "__main__":
    main()
