import pytest

pytest.register_assert_rewrite("tests.unit.tasks.store_suite")
