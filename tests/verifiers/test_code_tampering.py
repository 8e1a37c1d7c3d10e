"""Programs that want to pass without solving anything: none does, at any level, and each gets its verdict."""

# ruff: noqa: E501 - programs and rows of a table

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from quintain.sandboxes import Limits, Pool, SandboxUnavailable, open_pool
from quintain.verifiers import CodeTests, Task

CASES = [
    ("A man, a plan, a canal: Panama", True),
    ("race a car", False),
    ("", True),
    ("0P", False),
    ("ab", False),
]
HONEST = """
def is_palindrome(s):
    t = [c.lower() for c in s if c.isalnum()]
    return t == t[::-1]
"""
ASSERTS = [f"assert is_palindrome({text!r}) == {wanted}" for text, wanted in CASES]
CHECK = "def check(candidate):\n" + "".join(f"    assert candidate({t!r}) is {w}\n" for t, w in CASES)
PYTEST = (
    f"import pytest\nfrom solution import is_palindrome\n\n@pytest.mark.parametrize('text, wanted', {CASES!r})\n"
    "def test_it(text, wanted):\n    assert is_palindrome(text) is wanted\n"
)
PLAIN = "from solution import is_palindrome\n\n" + "\n\n".join(
    f"def test_{n}():\n    assert is_palindrome({text!r}) is {wanted}"
    for n, (text, wanted) in enumerate(CASES)
)
UNITTEST = (
    "import unittest\nfrom solution import is_palindrome\n\nclass Cases(unittest.TestCase):\n"
    + "\n".join(
        f"    def test_{n}(self):\n        self.assertEqual(is_palindrome({text!r}), {wanted})"
        for n, (text, wanted) in enumerate(CASES)
    )
)
TASKS = {
    "calls, level A": {
        "entry_point": "is_palindrome",
        "tests": [{"args": [t], "expected": w} for t, w in CASES],
    },
    "programs, level A": {"tests": [{"stdin": t + "\n", "stdout": f"{w}\n"} for t, w in CASES]},
    "HumanEval, level B": {"entry_point": "is_palindrome", "test": CHECK},
    "MBPP, level B": {"test_list": ASSERTS},
    "pytest, level B": {"module": "solution", "test_files": {"test_palindrome.py": PYTEST}},
    "parametrised, level C": {"level": "C", "test_files": {"test_palindrome.py": PYTEST}},
    "plain tests, level C": {"level": "C", "test_files": {"tests/test_palindrome.py": PLAIN}},
    "unittest, level C": {"level": "C", "test_files": {"test_palindrome.py": UNITTEST}},
}
HONEST_OF = {"programs, level A": HONEST + "\nprint(is_palindrome(input()))\n"}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    try:
        opened = open_pool(limits=Limits(wall_s=5, memory_mb=256))
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    with opened:
        yield opened


ATTACKS: dict[str, str] = {
    "exit with status 0": "import sys\nsys.exit(0)\n",
    "exit in the call": "import sys\ndef is_palindrome(s): sys.exit(0)\n",
    "hard exit with status 0": "import os\ndef is_palindrome(s): os._exit(0)\n",
    "an object equal to everything": "class Yes:\n    def __eq__(self, o): return True\n    def __bool__(self): return True\ndef is_palindrome(s): return Yes()\n",
    "an int equal to everything": "class Yes(int):\n    def __eq__(self, o): return True\n    def __hash__(self): return 1\ndef is_palindrome(s): return Yes(1)\n",
    "always true": "def is_palindrome(s): return True\n",
    "walk the frames": "import sys\ndef is_palindrome(s):\n    f = sys._getframe()\n    while f:\n        for v in list(f.f_locals.values()) + list(f.f_globals.values()):\n            if isinstance(v, (list, tuple)) and v and isinstance(v[-1], bool): return v[-1]\n            if isinstance(v, dict) and 'expected' in v: return v['expected']\n        f = f.f_back\n    return True\n",
    "search the garbage collector": "import gc\ndef is_palindrome(s):\n    for o in gc.get_objects():\n        if isinstance(o, dict) and 'expected' in o and s in o.get('args', ()): return o['expected']\n    return True\n",
    "patched builtins": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.all = lambda x: True\nbuiltins.len = lambda x: 4\nbuiltins.AssertionError = type('A', (BaseException,), {'__new__': lambda *a: None})\ndef is_palindrome(s): return True\n",
    "patched json": "import json\njson.dumps = lambda *a, **k: '[[true, \"\"]]'\njson.loads = lambda *a, **k: True\ndef is_palindrome(s): return True\n",
    "patched pytest and unittest": "try:\n    import _pytest.reports as r\n    r.TestReport.from_item_and_call = classmethod(lambda *a: None)\nexcept Exception: pass\nimport unittest\nunittest.TestCase.assertEqual = lambda *a: None\ndef is_palindrome(s): return True\n",
    "printed success": 'print(\'PASSED\')\nprint(\'4 passed in 0.01s\')\nprint(\'[[true, ""]]\')\ndef is_palindrome(s):\n    print(\'[[true, ""], [true, ""], [true, ""], [true, ""]]\')\n    return True\n',
    "success at exit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef is_palindrome(s): raise KeyboardInterrupt\n",
    "forged frames on every descriptor": "import os, struct\nfor fd in range(3, 64):\n    try: os.write(fd, struct.pack('<I', 10) + bytes(8) + b'VT' * 20)\n    except OSError: pass\ndef is_palindrome(s):\n    for fd in range(3, 64):\n        try: os.write(fd, struct.pack('<I', 10) + bytes(8) + b'VT')\n        except OSError: pass\n    return True\n",
    "a patched encoder": "import sys\nfor m in list(sys.modules.values()):\n    for n in ('encode', '_encode', 'plain', 'send'):\n        if hasattr(m, n) and 'quintain' in getattr(m, '__name__', ''):\n            setattr(m, n, lambda *a, **k: b'T')\ndef is_palindrome(s): return True\n",
    "a coroutine": "async def is_palindrome(s): return True\n",
    "a generator": "def is_palindrome(s): yield True\n",
    "never ends": "def is_palindrome(s):\n    while True: pass\n",
    "never loads": "while True: pass\n",
    "ends on a signal": "import os, signal\ndef is_palindrome(s): os.kill(os.getpid(), signal.SIGKILL)\n",
    "takes all memory": "def is_palindrome(s): return bytearray(1 << 33)\n",
    "forks": "import os\ndef is_palindrome(s):\n    os.fork()\n    return True\n",
    "answers too deep": "def is_palindrome(s):\n    x = []\n    for _ in range(10**5): x = [x]\n    return x\n",
    "answers with a huge text": "def is_palindrome(s): return 'x' * (1 << 27)\n",
    "edits the tests": "import os\nfor root in ('.', '/tmp', '/work'):\n    for d, _, fs in os.walk(root):\n        for f in fs:\n            try: open(os.path.join(d, f), 'w').write('def check(c): pass\\ndef test_it(): pass\\n')\n            except OSError: pass\ndef is_palindrome(s): return True\n",
    "drops a conftest": "open('conftest.py', 'w').write('import pytest\\n@pytest.hookimpl(tryfirst=True)\\ndef pytest_runtest_makereport(item, call): call.excinfo = None\\n')\ndef is_palindrome(s): return True\n",
    "raises what the judge would let pass": "def is_palindrome(s): raise SystemExit(0)\n",
    "no function": "x = 1\n",
    "no program": "I cannot do that.",
    "nothing": "",
    "null bytes": "def is_palindrome(s): return True\0",
    "a lone surrogate": "def is_palindrome(s): return '\ud800'",
    "an object that is true of everything": "class Yes:\n    def __getattribute__(self, n):\n        return lambda *a, **k: True\n    def __eq__(self, o): return True\n    __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __eq__\n    __hash__ = None\ndef is_palindrome(s): return Yes()\n",
    "a class equal to everything": "class Meta(type):\n    def __eq__(cls, o): return True\n    def __hash__(cls): return 0\n    def __instancecheck__(cls, o): return True\nclass Yes(metaclass=Meta): pass\ndef is_palindrome(s): return Yes\n",
    "a text equal to everything": "class Yes(str):\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    __hash__ = str.__hash__\ndef is_palindrome(s): return Yes('x')\n",
    "a list equal to everything": "class Yes(list):\n    def __eq__(self, o): return True\n    def __len__(self): return 1\ndef is_palindrome(s): return Yes()\n",
    "a float equal to everything": "class Yes(float):\n    def __eq__(self, o): return True\n    __hash__ = float.__hash__\ndef is_palindrome(s): return Yes(1)\n",
    "not a number": "def is_palindrome(s): return float('nan')\n",
    "changes its class when asked": "class Yes:\n    @property\n    def __class__(self): return bool\n    def __eq__(self, o): return True\ndef is_palindrome(s): return Yes()\n",
    "pickles itself as the answer": "class Yes:\n    def __reduce__(self): return (eval, ('True',))\n    def __reduce_ex__(self, p): return (eval, ('True',))\n    def __eq__(self, o): return True\ndef is_palindrome(s): return Yes()\n",
    "converts itself as the answer": "class Yes:\n    def tolist(self): return True\n    def __bool__(self): return True\n    def __index__(self): return 1\n    def __array__(self): return True\n    def __eq__(self, o): return True\ndef is_palindrome(s): return Yes()\n",
    "patched operators of the assert": "import builtins, operator\nfor n in ('isinstance', 'sorted', 'len', 'any', 'all', 'repr', 'abs', 'bool', 'type'):\n    try: setattr(builtins, n, lambda *a, **k: True)\n    except Exception: pass\noperator.eq = operator.is_ = lambda *a: True\ndef is_palindrome(s): return True\n",
    "exec without asserts": "import builtins\n_exec, _compile = builtins.exec, builtins.compile\nbuiltins.exec = lambda *a, **k: None\nbuiltins.compile = lambda s, f, m, *a, **k: _compile('pass', f, m)\ndef is_palindrome(s): return True\n",
    "asserts optimised away": "import sys, builtins\n_compile = builtins.compile\nbuiltins.compile = lambda s, f, m, flags=0, dont_inherit=False, optimize=-1, **k: _compile(s, f, m, flags, dont_inherit, 2, **k)\nbuiltins.__debug__ if True else 0\ndef is_palindrome(s): return True\n",
    "an import hook": "import sys\nclass Hook:\n    def find_spec(self, name, path=None, target=None):\n        if 'test' in name: raise ImportError(name)\nsys.meta_path.insert(0, Hook())\ndef is_palindrome(s): return True\n",
    "a path file and sitecustomize": "import os, site, sys\nfor d in ('.', '/work', '/tmp', *sys.path):\n    for n in ('sitecustomize.py', 'usercustomize.py', 'x.pth', 'conftest.py', 'pytest.ini', 'setup.cfg'):\n        try: open(os.path.join(d, n), 'w').write('import os; os._exit(0)\\n')\n        except OSError: pass\ndef is_palindrome(s): return True\n",
    "environment variables": "import os\nos.environ.update(PYTHONSTARTUP='/work/x.py', PYTHONPATH='/work', PYTEST_ADDOPTS='--co -k nothing', PYTEST_PLUGINS='x', PYTHONOPTIMIZE='2')\ndef is_palindrome(s): return True\n",
    "deletes the tests": "import glob, os, shutil\nfor p in glob.glob('/work/**/test*', recursive=True) + glob.glob('**/test*', recursive=True):\n    try: os.remove(p)\n    except OSError: pass\ndef is_palindrome(s): return True\n",
    "empties the tests": "import glob\nfor p in glob.glob('/work/**/test*.py', recursive=True):\n    try: open(p, 'w').write('def test_it(): pass\\n')\n    except OSError: pass\ndef is_palindrome(s): return True\n",
    "changes the folder": "import os\nos.chdir('/')\ndef is_palindrome(s):\n    os.chdir('/tmp')\n    return True\n",
    "reads the tests from disk": "import ast, glob, re\nfound = {}\nfor p in glob.glob('/work/**/*.py', recursive=True) + glob.glob('/tmp/*.py') + ['/proc/self/cmdline', '/proc/self/environ']:\n    try: text = open(p, errors='replace').read()\n    except OSError: continue\n    for a, b in re.findall(r\"\\(('[^']*'), (True|False)\\)\", text) + re.findall(r\"\\(('[^']*')\\) (?:is|==) (True|False)\", text):\n        found.setdefault(ast.literal_eval(a), b == 'True')\ndef is_palindrome(s): return found.get(s, s != 'race a car' and False)\n",
    "a signal at the end": "import os, signal\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\ndef is_palindrome(s):\n    import time\n    time.sleep(0.1)\n    return True\n",
    "an exit function": "import atexit, os\natexit.register(os._exit, 0)\ndef is_palindrome(s): return True\n",
    "a thread that ends everything": "import os, threading\nthreading.Timer(0.05, lambda: os._exit(0)).start()\ndef is_palindrome(s):\n    import time\n    time.sleep(0.1)\n    return True\n",
    "a child that reports success": "import os\nif os.fork() == 0:\n    for fd in range(1, 40):\n        try: os.write(fd, b'\\n4 passed in 0.01s\\n[[true, \"\"]]\\n')\n        except OSError: pass\n    os._exit(0)\ndef is_palindrome(s): return True\n",
    "exceptions that nobody catches": "class Quiet(BaseException): pass\ndef is_palindrome(s): raise Quiet\n",
    "a generator exit": "def is_palindrome(s): raise GeneratorExit\n",
    "asks to skip": "def is_palindrome(s):\n    try:\n        import pytest\n    except ImportError: return True\n    pytest.skip('later')\n",
    "skips the module": "try:\n    import pytest\n    pytest.skip('later', allow_module_level=True)\nexcept ImportError: pass\ndef is_palindrome(s): return True\n",
    "exits pytest": "def is_palindrome(s):\n    import sys\n    if 'pytest' in sys.modules: sys.modules['pytest'].exit('done', returncode=0)\n    return True\n",
    "marks the tests as expected to fail": "try:\n    import gc, pytest\n    for o in gc.get_objects():\n        if type(o).__name__ in ('Function', 'Module', 'Session') and hasattr(o, 'add_marker'): o.add_marker(pytest.mark.xfail)\nexcept ImportError: pass\ndef is_palindrome(s):\n    try: import pytest\n    except ImportError: return True\n    pytest.xfail('known')\n",
    "patches the reports": "try:\n    import _pytest.reports as r, _pytest.runner as n\n    made = r.TestReport.from_item_and_call.__func__\n    def make(cls, item, call):\n        call.excinfo = None\n        return made(cls, item, call)\n    r.TestReport.from_item_and_call = classmethod(make)\nexcept Exception: pass\ndef is_palindrome(s): return True\n",
    "patches the calls": "try:\n    import _pytest.python as p\n    p.Function.runtest = lambda self: None\n    import unittest\n    unittest.TestCase.run = lambda self, result=None: None\nexcept Exception: pass\ndef is_palindrome(s): return True\n",
    "registers a plugin": "try:\n    import gc, pytest\n    class Plugin:\n        @pytest.hookimpl(tryfirst=True)\n        def pytest_runtest_makereport(self, item, call): call.excinfo = None\n        @pytest.hookimpl(tryfirst=True)\n        def pytest_pyfunc_call(self, pyfuncitem): return True\n    for o in gc.get_objects():\n        if type(o).__name__ == 'PytestPluginManager': o.register(Plugin())\nexcept Exception: pass\ndef is_palindrome(s): return True\n",
    "removes failing tests from the session": "try:\n    import gc\n    for o in gc.get_objects():\n        if type(o).__name__ == 'PytestPluginManager':\n            class Plugin:\n                def pytest_collection_modifyitems(self, items): items[:] = [i for i in items if 'race' not in i.name and '0P' not in i.name]\n            o.register(Plugin())\nexcept Exception: pass\ndef is_palindrome(s): return True\n",
    "rewrites the seen results": "import gc\ndef is_palindrome(s):\n    for o in gc.get_objects():\n        if isinstance(o, list) and o and isinstance(o[0], list) and len(o[0]) == 4 and o[0][1] in ('setup', 'call', 'teardown'):\n            for r in o: r[2] = 'passed'\n        if isinstance(o, dict) and o and isinstance(next(iter(o.values())), list):\n            for v in o.values():\n                if v and v[0] is False: v[0] = True\n    return True\n",
    "writes the report itself": "import json, os, sys\nf = sys._getframe()\ntoken, paths = '', []\nwhile f:\n    token = token or f.f_locals.get('token') or ''\n    f = f.f_back\nif token:\n    import ast, glob\n    seen = []\n    for p in sorted(glob.glob('/work/test_*.py')):\n        for n in ast.walk(ast.parse(open(p).read())):\n            if isinstance(n, ast.FunctionDef) and n.name.startswith('test'):\n                for i in range(4):\n                    seen += [[f'{os.path.basename(p)}::{n.name}[{i}]', w, 'passed', ''] for w in ('setup', 'call', 'teardown')]\n    data = (token + json.dumps([1, seen])).encode()\n    for fd in range(3, 40):\n        try: os.write(fd, data)\n        except OSError: pass\n    os._exit(0)\ndef is_palindrome(s): return True\n",
    "a forged junit report": "for n in ('report.xml', 'junit.xml', '/tmp/junit.xml', 'results.json', 'report.json'):\n    try: open(n, 'w').write('<testsuite errors=\"0\" failures=\"0\" tests=\"4\"/>')\n    except OSError: pass\ndef is_palindrome(s): return True\n",
    "a trace function": "import sys\ndef trace(frame, event, arg):\n    if 'wanted' in frame.f_locals: frame.f_locals['wanted'] = True\n    return trace\nsys.settrace(trace)\ndef is_palindrome(s):\n    f = sys._getframe(1)\n    f.f_trace = trace\n    return f.f_locals.get('wanted', True)\n",
    "answers from the caller's frame": "import sys\ndef is_palindrome(s):\n    f = sys._getframe(1)\n    while f:\n        if 'wanted' in f.f_locals: return f.f_locals['wanted']\n        f = f.f_back\n    return True\n",
    "answers from the caller's code": "import sys\ndef is_palindrome(s):\n    f = sys._getframe(1)\n    while f:\n        c = [k for k in f.f_code.co_consts if isinstance(k, bool)]\n        if c: return c[0]\n        f = f.f_back\n    return True\n",
    "answers by counting": "n = [0]\ndef is_palindrome(s):\n    n[0] += 1\n    return n[0] % 2 == 1\n",
    "prints its own verdict as the judge": "import sys\nclass Out:\n    def write(self, t): return len(t)\n    def flush(self): pass\nsys.stdout = sys.stderr = Out()\nprint('VERDICT 1')\ndef is_palindrome(s): return True\n",
    "a module of the same name as the judge's": "import sys, types\nfor n in ('pytest', 'unittest', 'json', '_pytest', 'assertions'):\n    m = types.ModuleType(n)\n    m.main = m.dumps = lambda *a, **k: 0\n    sys.modules[n] = m\ndef is_palindrome(s): return True\n",
    "never returns from its clean-up": "class Slow:\n    def __del__(self):\n        while True: pass\ndef is_palindrome(s):\n    Slow()\n    return True\n",
}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k[-1] == "B" else k for k in TASKS]
)
async def test_the_honest_solution_passes(pool: Pool, kind: str) -> None:
    task = Task(kind, "", TASKS[kind])
    CodeTests().check(task)
    score = await CodeTests(wall_s=5, pool=pool).acall(HONEST_OF.get(kind, HONEST), task)
    assert score.value == 1, score.reason
    assert score.reason.startswith("level " + kind[-1])


@pytest.mark.parametrize(
    "kind", [k if k == "calls, level A" else pytest.param(k, marks=pytest.mark.slow) for k in TASKS]
)
async def test_no_attack_passes(pool: Pool, kind: str) -> None:
    task = Task(kind, "", TASKS[kind])
    judge = CodeTests(wall_s=1, memory_mb=256, pool=pool)
    scores = await asyncio.gather(*(judge.acall(program, task) for program in ATTACKS.values()))
    by_name = dict(zip(ATTACKS, scores, strict=True))
    assert [(name, s.reason) for name, s in by_name.items() if s.value != 0] == []
    assert [(name, s.reason) for name, s in by_name.items() if not s.graded] == []
    assert (await CodeTests(wall_s=5, pool=pool).acall(HONEST_OF.get(kind, HONEST), task)).value == 1
