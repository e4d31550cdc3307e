# The commands of the project.  Each does the set-up that it needs, once, in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*.* csrc/*/*.*)

.PHONY: help demo test check bench bench-cuda tutorial lint sanitize sanitize-threads sanitize-cuda compile-cuda clean
help:
	@echo "make demo      see it work           make test      the tests"
	@echo "make bench     the benchmarks        make lint      style and types"
	@echo "make check     lint and the quick tests, for working"
	@echo "make tutorial  the notebook in docs/, executed"
	@echo "make sanitize  native code under AddressSanitizer and UBSan"
	@echo "make sanitize-threads                  the same under ThreadSanitizer"
	@echo "make bench-cuda, make sanitize-cuda    the same on a CUDA card"
	@echo "make compile-cuda                      every CUDA source compiles; no card needed"
	@echo "make clean     remove everything that was made here"

demo: $(READY)
	$(BIN)/nst demo

# Two workers side by side; threads that wait do not spin, or they would keep the others' from work.
TESTING := OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -p no:benchmark
test: $(READY)
	$(TESTING) -n 2 --dist loadfile tests

# For working: lint, and the tests that tell within a minute or so whether the whole holds together.
QUICK := tests/test_layering.py tests/test_readme.py \
  $(foreach name,properties registry errors frozen modules,tests/fastconv/test_$(name).py) \
  $(foreach name,config losses networks moves optimize pipeline resuming images weights,tests/nst/test_$(name).py)
check: lint
	$(TESTING) -n 2 --dist loadfile $(QUICK)

bench: $(READY)
	@mkdir -p build
	$(BIN)/python -m pytest -q bench -c bench/pytest.ini --benchmark-json=build/bench.json
	$(BIN)/python bench/report.py build/bench.json

bench-cuda: $(READY)
	$(BIN)/python bench/bench_cuda.py

# The notebook needs Jupyter's own packages, which nothing else does.
tutorial: $(READY)
	@$(BIN)/python -c 'import nbclient, ipykernel' 2>/dev/null || $(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	$(BIN)/python docs/make_notebook.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests once more, with memory errors and undefined behaviour of the native code fatal.
# libasan must be there before Python is, and libstdc++ with it, or it cannot see exceptions thrown;
# torch's own leaks at exit are not ours to report.  Page faults cannot be counted here: the
# sanitizer's own memory makes them.  Emulated CUDA kernels have guard pages instead: it does not
# follow fibres from stack to stack.
SANITIZED := build/sanitize
PRELOAD = $$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so.6)
sanitize: $(READY)
	$(BIN)/cmake -S . -B $(SANITIZED) -G Ninja -DFASTCONV_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=Debug \
	  -DPython_EXECUTABLE=$(abspath $(BIN)/python) -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja)
	$(BIN)/cmake --build $(SANITIZED)
	LD_PRELOAD="$(PRELOAD)" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	  FASTCONV_TEST_EXTENSION=$(abspath $(SANITIZED))/_C.abi3.so \
	  $(BIN)/python -m pytest -q tests/fastconv -k "(native or winograd or frozen or kept or gradients or packed_rows or distance or matrix_unit) and not compile and not fresh_memory and not cuda"

# Every operator with 2, 3 and 7 threads, a data race in native code fatal.  The build starts its own
# threads (csrc/cpu/parallel.h).  A fixed layout of addresses: with a random one, kernels from 6.6 on
# put libraries where the sanitizer's own memory has to be.
RACED := build/sanitize-threads
PRELOAD_THREADS = $$($${CXX:-c++} -print-file-name=libtsan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so.6)
sanitize-threads: $(READY)
	$(BIN)/cmake -S . -B $(RACED) -G Ninja -DFASTCONV_SANITIZE=thread -DFASTCONV_CUDA=0 -DCMAKE_BUILD_TYPE=Debug \
	  -DPython_EXECUTABLE=$(abspath $(BIN)/python) -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja)
	$(BIN)/cmake --build $(RACED)
	LD_PRELOAD="$(PRELOAD_THREADS)" TSAN_OPTIONS=ignore_noninstrumented_modules=1:exitcode=66 OMP_NUM_THREADS=1 \
	  FASTCONV_TEST_EXTENSION=$(abspath $(RACED))/_C.abi3.so \
	  setarch $$(uname -m) -R $(BIN)/python tests/fastconv/races.py

# On a card: the case table on it, then a part of it again with every access of memory checked.
sanitize-cuda: $(READY)
	@$(BIN)/python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "make sanitize-cuda: no CUDA card in reach of torch; it needs one"; exit 1; }
	@command -v compute-sanitizer >/dev/null || { echo "missing: compute-sanitizer, a part of the CUDA toolkit"; exit 1; }
	$(BIN)/fastconv check --backend native --device cuda
	for tool in memcheck racecheck; do PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 1 	  $(BIN)/fastconv check --backend native --device cuda --cases 60 || exit 1; done

# The kernels for every card that they are meant for; with a CPU-only torch as well.
compile-cuda: $(READY)
	FASTCONV_CUDA=1 $(BIN)/cmake -S . -B build/cuda -G Ninja -DCMAKE_BUILD_TYPE=Release \
	  -DPython_EXECUTABLE=$(abspath $(BIN)/python) -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja)
	$(BIN)/cmake --build build/cuda --target cuda_kernels

$(READY): $(SOURCES)
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON). Install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "too old: $$($(PYTHON) -V). Python 3.10 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "missing: Python's venv module. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { echo "missing: a C++ compiler with C++20 (gcc 11, clang 14 or newer). On Debian and Ubuntu: apt install g++"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -c constraints.txt torch || { echo "torch could not be installed: see pip's message above (is the package index reachable?)"; exit 1; }
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]' || { echo "the project could not be built or installed: see the message above"; exit 1; }
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist out .pytest_cache .hypothesis .mypy_cache .ruff_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
