"""Android's tools as `scripts/android_tools.sh` unpacks them, the compilers, and models that answer over a socket."""

import io
import os
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from mbn_deploy.runtime.backends import open_backend

HERE = Path(__file__).resolve().parents[1]
TOP = HERE.parent / ".android"
DEBIAN = TOP / "root" / "usr"
FRAMEWORK = DEBIAN / "share" / "android-framework-res" / "framework-res.apk"
KOTLIN = TOP / "kotlin" / "node_modules" / "kotlin-compiler" / "lib"
STUBS = HERE / "android_stubs"
HARNESS, BOX = (STUBS / "harness" / name for name in ("Harness.kt", "Box.kt"))

packaging = pytest.mark.skipif(not FRAMEWORK.exists(), reason="no aapt2 here: scripts/android_tools.sh sets it up")
compiling = pytest.mark.skipif(
    not (KOTLIN.exists() and shutil.which("javac")),
    reason="no Kotlin compiler here: scripts/android_tools.sh sets it up",
)
# One processor and a little memory are enough, and compilers here do not live long enough for the second JIT.
JAVA = ("java", "-Xmx900m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def debian(tool, *arguments):
    """Run one of Debian's tools, with the libraries beside it."""
    folders = [DEBIAN / "lib", DEBIAN / "lib/p7zip", *sorted(DEBIAN.glob("lib/*-linux-gnu*"))]
    folders += [folder / "android" for folder in folders]
    environment = os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, folders))}
    command = [DEBIAN / "bin" / tool, *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, capture_output=True, text=True)


def signed(apk, work):
    """Sign the APK with a new key, and verify the signature."""
    key, jar = work / "key.p12", DEBIAN / "share" / "java" / "apksigner.jar"
    make = ["keytool", "-genkeypair", "-keystore", key, "-storepass", "secret", "-alias", "test", "-keyalg", "EC"]
    subprocess.run([*make, "-dname", "CN=test", "-storetype", "PKCS12"], check=True, capture_output=True)
    out = apk.with_name("signed.apk")
    options = ["--ks", key, "--ks-pass", "pass:secret", "--in", apk, "--out", out]
    subprocess.run([*JAVA, "-jar", jar, "sign", *options], check=True, capture_output=True)
    subprocess.run([*JAVA, "-jar", jar, "verify", "--min-sdk-version", "24", out], check=True, capture_output=True)
    return out


def compile_stubs(target):
    """Compile the classes of Android and of the runtimes that the generated code calls."""
    sources = [str(path) for path in sorted(STUBS.rglob("*.java"))]
    _run(["javac", "-Xlint:all", "-Werror", "--release", "17", "-d", str(target), *sources])
    return target


def compile_package(sources, stubs, target):
    """Compile Kotlin and Java sources together, as a Gradle module does; a warning is an error."""
    target.mkdir(parents=True, exist_ok=True)
    kotlin = [str(path) for path in sources if path.suffix == ".kt"]
    java = [str(path) for path in sources if path.suffix == ".java"]
    library = str(KOTLIN / "kotlin-stdlib.jar")
    options = ["-no-stdlib", "-no-reflect", "-jvm-target", "17", "-Werror", "-progressive", "-d", str(target)]
    compiler = [*JAVA, "-cp", f"{KOTLIN}/*", "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    _run([*compiler, *options, "-cp", f"{stubs}:{library}", *kotlin, *java])
    options = ["-Xlint:all", "-Werror", "--release", "17", "-d", str(target)]
    _run(["javac", *options, "-cp", f"{stubs}:{target}:{library}", *java])
    return target


def run_harness(classes, stubs, command, assets, test_assets, data=b""):  # noqa: PLR0917
    """Run the generated code on `data` and return what it writes; see `Harness.kt`."""
    source, target = classes.parent / "in", classes.parent / "out"
    source.write_bytes(data)
    with Interpreters() as port:
        path = f"{classes}:{stubs}:{KOTLIN / 'kotlin-stdlib.jar'}"
        words = [*JAVA, f"-Dinterpreter.port={port}", "-cp", path, "com.example.flowers.HarnessKt"]
        _run([*words, command, str(assets), str(test_assets), str(source), str(target)])
    return io.BytesIO(target.read_bytes())


def run_box(classes, stubs, cases):
    """Return the boxes of (width, height, degrees) that MediaPipe's class looks at; see `Box.kt`."""
    path = f"{classes}:{stubs}:{KOTLIN / 'kotlin-stdlib.jar'}"
    numbers = [str(number) for case in cases for number in case]
    lines = _run([*JAVA, "-cp", path, "com.example.flowers.BoxKt", *numbers]).splitlines()
    return [tuple(map(float, line.split())) for line in lines]


def _run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Interpreters:
    """A server on this machine that runs models: `Remote.java` calls it."""

    def __enter__(self):
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return self._server.getsockname()[1]

    def __exit__(self, *_):
        self._server.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection):
    with connection, connection.makefile("rwb") as stream:
        (size,) = struct.unpack(">H", stream.read(2))
        file_format = stream.read(size).decode()
        backend = open_backend(_message(stream), file_format)
        try:
            info = backend.input
            stream.write(struct.pack(">i", int(np.prod(info.shape)) * np.dtype(info.dtype).itemsize))
            stream.flush()
            while (data := _message(stream)) is not None:
                answer = backend.run(np.frombuffer(data, info.dtype).reshape(info.shape)).tobytes()
                stream.write(struct.pack(">i", len(answer)) + answer)
                stream.flush()
        finally:
            backend.close()


def _message(stream):
    head = stream.read(4)
    return stream.read(struct.unpack(">i", head)[0]) if len(head) == 4 else None
