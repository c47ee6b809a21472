"""Builds libtenon and puts it, with its header, into the wheel. `TENON_FEATURES=vulkan pip install …`
builds it with that backend."""

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).resolve().parents[2]


class Version(MetadataHookInterface):
    """The workspace's version is the package's."""

    PLUGIN_NAME = "custom"

    def update(self, metadata):
        if not (ROOT / "ffi/include/tenon.h").exists():
            raise RuntimeError("install from the repository: pip install ./ffi/python")
        manifest = (ROOT / "Cargo.toml").read_text()
        metadata["version"] = re.search(r'^version = "(.+)"$', manifest, re.MULTILINE)[1]


class Library(BuildHookInterface):
    """`cargo build`, as the library is shipped. The wheel holds no code for Python's own ABI."""

    PLUGIN_NAME = "custom"

    def initialize(self, version, build_data):
        library = self.strip(self.build())
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + re.sub(r"[-.]", "_", sysconfig.get_platform())
        build_data["force_include"] = {
            str(library): "tenon/" + library.name,
            str(ROOT / "ffi/include/tenon.h"): "tenon/tenon.h",
            str(ROOT / "LICENSE-APACHE"): "tenon/LICENSE-APACHE",
            str(ROOT / "LICENSE-MIT"): "tenon/LICENSE-MIT",
        }

    def build(self):
        """The path of the shared library, as cargo tells it."""
        if shutil.which("cargo") is None:
            raise RuntimeError("tenon is built from source by cargo: see https://rustup.rs")
        command = ["cargo", "build", "--profile", "dist", "--package", "tenon"]
        command += ["--message-format", "json-render-diagnostics"]
        if features := os.environ.get("TENON_FEATURES"):
            command += ["--features", features]
        out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        for message in map(json.loads, out.splitlines()):
            if message.get("target", {}).get("name") == "tenon":
                for name in message.get("filenames", ()):
                    if name.endswith((".so", ".dylib", ".dll")):
                        return Path(name)
        raise RuntimeError("cargo built no shared library")

    def strip(self, library):
        """A copy without debug information: 3 instead of 19 MB. Where there is no `strip`, as it is."""
        copy = library.parent / "python" / library.name
        copy.parent.mkdir(exist_ok=True)
        tool = shutil.which("strip")
        if tool is None or os.name == "nt":
            shutil.copyfile(library, copy)
        else:
            flags = ["-x"] if library.suffix == ".dylib" else []
            subprocess.run([tool, *flags, "-o", str(copy), str(library)], check=True)
        return copy
