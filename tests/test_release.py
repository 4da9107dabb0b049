"""What ``make release-check`` refuses, without building anything."""

import pytest
import release_check

import advex


def test_the_version_is_read_from_the_tree():
    assert release_check.version() == advex.__version__


def test_a_tag_unlike_the_version_is_refused():
    wanted = release_check.version()
    assert release_check.complaints(wanted, []) == []
    assert release_check.complaints(wanted, [f"v{wanted}"]) == []
    for tag in (wanted, f"v{wanted}1", "v99.0.0"):
        (said,) = release_check.complaints(wanted, [f"v{wanted}", tag])
        assert said == f"the tag {tag} is not v{wanted}"
        with pytest.raises(SystemExit, match=tag):
            release_check.main(["--tag", tag])
    release_check.main(["--tag", f"v{wanted}"])


def test_a_version_that_nobody_has_described_is_refused():
    assert len(release_check.complaints("99.0.0", [])) == 2
