#!/usr/bin/env python3
"""Runs the steps of examples/ci/emulate.yml, and reads the Containerfile beside it.

Every `run:` goes through sh -e as it stands, in a folder where the checkouts have been made, with stand-ins for what a test
may not do: `apt-get` installs nothing but knows whether the packages exist, `make -C prefpga install` installs this build.
The project to be tested runs a kernel on the second of two emulated cards. 77: no XRT, or no Debian.

usage: ci_recipes.py SOURCE-FOLDER BUILD-FOLDER SCRATCH-FOLDER"""
import os
import re
import shutil
import subprocess
import sys

APT = """#!/bin/sh
[ "$1" = update ] && exit 0
[ "$1" = install ] || { echo "apt-get: what is $1?" >&2; exit 100; }
shift
for package; do
	case $package in -*) continue ;; esac
	case " $KNOWN " in *" $package "*) continue ;; esac
	dpkg-query -W "$package" > /dev/null 2>&1 || apt-cache show "$package" > /dev/null 2>&1 ||
		{ echo "apt-get: there is no package $package" >&2; exit 100; }
done
"""
MAKE = """#!/bin/sh
if [ "$1 $2 $3" = "-C prefpga install" ]; then
	grep -q '^install:' prefpga/Makefile && exec cmake --install "$BUILD" --prefix "$PREFIX" > /dev/null
	exit 2
fi
exec /usr/bin/make "$@"
"""
PROJECT = """test:
	test -n "$$XCL_EMULATION_MODE"
	echo '{"lw":-12,"ll":-14,"rw":-13,"rl":-13.5,"beta":0.1}' | prefpga loss sigmoid --device xrt:1 > result
	grep -q '"loss":0.6209' result
"""


def steps_of(path):
    """[(name of what is used, command to run, folder of a checkout)] in order; the file is also read as YAML where PyYAML is"""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    steps, at = [], ""
    for line in text.split("\n"):
        step = re.match(r" +- (run|uses): (.*)$", line)
        into = re.search(r"\bpath: (\w+)", line)
        if step:
            at = step.group(1)
            steps.append([step.group(2), "", ""] if at == "uses" else ["", step.group(2), ""])
        elif into and at == "uses":
            steps[-1][2] = into.group(1)
    try:
        import yaml
    except ImportError:
        return steps
    read = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
    assert [[s.get("uses", ""), s.get("run", ""), s.get("with", {}).get("path", "")] for s in read] == steps, "not what YAML says"
    return steps


def packages_of(makefile):
    with open(makefile, encoding="utf-8") as file:
        text = file.read().replace("\\\n", " ")
    return set(re.findall(r"[\w.+-]+", " ".join(re.findall(r"^\w+-packages *=(.*)$", text, re.M))))


def check_container(source, known):
    """What is copied is built and installed by goals that exist, and what is started was installed"""
    with open(os.path.join(source, "examples/ci/Containerfile"), encoding="utf-8") as file:
        lines = [line for line in file.read().split("\n") if line and not line.startswith("#")]
    words = [line.split(None, 1) for line in lines]
    assert [w[0] for w in words] == ["FROM", "RUN", "COPY", "RUN", "ENTRYPOINT"], words
    packages = words[1][1].split("install -y ")[1].split()
    missing = [p for p in packages if p not in known and subprocess.run(["dpkg-query", "-W", p], capture_output=True,
                                                                        check=False).returncode]
    assert not missing, missing
    assert words[2][1] == ". /src" and words[3][1].startswith("make -C /src install"), words
    assert words[4][1] == '["prefpga"]', words


def main():
    source, build, scratch = (os.path.abspath(path) for path in sys.argv[1:4])
    if not shutil.which("dpkg-query"):
        print("skipped: no Debian")
        return 77
    shutil.rmtree(scratch, ignore_errors=True)
    stubs, prefix = os.path.join(scratch, "stubs"), os.path.join(scratch, "prefix")
    os.makedirs(stubs)
    for name, text in (("apt-get", APT), ("make", MAKE)):
        with open(os.path.join(stubs, name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(os.path.join(stubs, name), 0o755)
    known = packages_of(os.path.join(source, "Makefile")) | {"git", "make", "ca-certificates"}
    check_container(source, known)
    environment = dict(os.environ, PATH="%s:%s/bin:%s" % (stubs, prefix, os.environ["PATH"]), BUILD=build, PREFIX=prefix,
                       KNOWN=" ".join(sorted(known)))
    runs = 0
    for uses, command, folder in steps_of(os.path.join(source, "examples/ci/emulate.yml")):
        if folder == "prefpga":
            os.symlink(source, os.path.join(scratch, folder))
        elif uses:
            os.makedirs(os.path.join(scratch, folder))
            with open(os.path.join(scratch, folder, "Makefile"), "w", encoding="utf-8") as file:
                file.write(PROJECT)
        else:
            run = subprocess.run(["sh", "-e", "-c", command], cwd=scratch, env=environment, text=True, capture_output=True,
                                 check=False)
            runs += 1
            if run.returncode:
                print("%s: ended with %d\n%s%s" % (command, run.returncode, run.stdout, run.stderr))
                return 77 if run.returncode == 77 else 1
    with open(os.path.join(scratch, "project/result"), encoding="utf-8") as file:
        print("%d steps; on the emulated card: %s" % (runs, file.read().strip()))
    assert runs >= 4
    # a package that is not there must be noticed
    wrong = subprocess.run(["apt-get", "install", "-y", "libxrt1", "no-such-package"], env=environment, capture_output=True,
                           check=False)
    assert wrong.returncode == 100, "the stand-in for apt-get takes everything"
    shutil.rmtree(scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
