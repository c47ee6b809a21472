"""What the package has beside the header, compared with it."""

import re
import typing
import unittest
from pathlib import Path

import tenon
from tenon import _array, _errors, _native, _options, _session

#: Functions that the package does without, and why.
UNUSED = {
    "tn_session_get_trainable": "tn_parameters_read does it for any set",
    "tn_session_set_trainable": "tn_parameters_write does it for any set",
}

#: Fields of options that are given otherwise.
ELSEWHERE = {"trains", "lora_rank", "precision"}


class Header(unittest.TestCase):
    def test_every_function_is_used(self):
        sources = Path(tenon.__file__).parent.glob("*.py")
        used = set(re.findall(r"\b_?lib\.(tn_\w+)", "".join(path.read_text() for path in sources)))
        declared = {name for name in dir(_native.lib) if name.startswith("tn_")}
        self.assertGreater(len(declared), 30)
        self.assertEqual(used, declared - set(UNUSED))

    def test_structs_have_these_fields(self):
        for kind, known in (
            ("tn_train_options", set(_options.TrainOptions.__annotations__)),
            ("tn_model_options", set(_options.ModelOptions.__annotations__) | ELSEWHERE),
            ("tn_plan", set(_options.Plan._fields)),
            ("tn_report", set(_options.Report._fields)),
        ):
            self.assertEqual(set(_native.fields(kind)), known, kind)

    def test_choices_are_the_headers(self):
        for field, annotation in _options.TrainOptions.__annotations__.items():
            text = getattr(annotation, "__forward_arg__", str(annotation))
            if "Literal" in text:
                names = re.findall(r"['\"](\w+)['\"]", text)
                prefix = _options._CHOICES[field]
                self.assertEqual(sorted(names), sorted(_native.choices(prefix)), field)
        for name in typing.get_args(_options.Optimizer):
            _native.code("TN_", name)

    def test_names_of_sets(self):
        for names, prefix in ((_session.Kept, "TN_KEPT_"), (_session.Set, "TN_SET_")):
            self.assertEqual(sorted(typing.get_args(names)), sorted(_native.choices(prefix)))

    def test_every_code_has_a_class(self):
        self.assertEqual(
            sorted(_errors.KINDS), sorted(n.upper() for n in _native.choices("TN_ERROR_"))
        )
        for kind in _errors.KINDS.values():
            self.assertTrue(issubclass(kind, tenon.Error) and kind.__doc__)
            self.assertIs(getattr(tenon, kind.__name__), kind)

    def test_element_types(self):
        self.assertEqual(_array.DTYPE_NAMES[0], "f32")
        self.assertEqual(_array.DTYPE_NAMES[21], "q4_k")
        self.assertEqual(len(_array.DTYPE_NAMES), 13)

    def test_it_is_documented(self):
        for name in tenon.__all__:
            thing = getattr(tenon, name)
            if isinstance(thing, type):
                self.assertTrue(thing.__doc__, name)
                for member, value in vars(thing).items():
                    if callable(value) and not member.startswith("_"):
                        self.assertTrue(value.__doc__, f"{name}.{member}")
        self.assertTrue((Path(tenon.__file__).parent / "py.typed").exists())
        self.assertRegex(tenon.__version__, r"^\d+\.\d+\.\d+$")


if __name__ == "__main__":
    unittest.main()
