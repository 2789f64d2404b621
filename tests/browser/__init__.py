import pytest

# What a browser did is only told by a failed assertion when pytest has rewritten it.
pytest.register_assert_rewrite("browser.walk")
