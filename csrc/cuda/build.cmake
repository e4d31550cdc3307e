# Builds fastconv._cuda, the CUDA kernels, beside _C.
#
# FASTCONV_CUDA (an environment variable, or -DFASTCONV_CUDA=):
#   auto  where there are nvcc and a torch built for CUDA of nvcc's major version; else left out
#   1     it has to be built: whatever is missing is an error.  On a torch without CUDA the kernels
#         are compiled and nothing is installed: a check that they compile
#   0     never
set(default auto)
if(DEFINED ENV{FASTCONV_CUDA})
  set(default $ENV{FASTCONV_CUDA})
endif()
set(FASTCONV_CUDA ${default} CACHE STRING "build fastconv._cuda: auto, 1 or 0")
if(NOT FASTCONV_CUDA MATCHES "^(auto|1|0)$")
  message(FATAL_ERROR "FASTCONV_CUDA expects auto, 1 or 0, got '${FASTCONV_CUDA}'.")
endif()

# Leaves the module out, with the reason; an error where it was asked for.
macro(fastconv_without_cuda reason)
  if(FASTCONV_CUDA STREQUAL "1")
    message(FATAL_ERROR "FASTCONV_CUDA=1: ${reason}")
  endif()
  message(STATUS "fastconv: no CUDA kernels: ${reason}")
  return()
endmacro()

if(FASTCONV_CUDA STREQUAL "0")
  message(STATUS "fastconv: no CUDA kernels: FASTCONV_CUDA=0")
  return()
endif()

file(STRINGS ${TORCH_FOLDER}/version.py torch_cuda REGEX "^cuda[^=]*=")
string(REGEX MATCH "[0-9]+\\.[0-9]+" torch_cuda "${torch_cuda}")
if(NOT torch_cuda AND FASTCONV_CUDA STREQUAL "auto")
  message(STATUS "fastconv: no CUDA kernels: this torch is built without CUDA")
  return()
endif()

if(NOT DEFINED FASTCONV_CUDA_FOLDERS)  # where toolkits are looked for before the PATH
  set(FASTCONV_CUDA_FOLDERS $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
endif()
find_program(FASTCONV_NVCC nvcc NO_CACHE NO_CMAKE_PATH NO_CMAKE_ENVIRONMENT_PATH NO_CMAKE_SYSTEM_PATH
  HINTS ${FASTCONV_CUDA_FOLDERS} PATH_SUFFIXES bin)
if(NOT FASTCONV_NVCC)
  fastconv_without_cuda("nvcc was not found; install the CUDA toolkit ${torch_cuda}, or set \
CUDA_HOME to the folder that it is in")
endif()
execute_process(COMMAND ${FASTCONV_NVCC} --version OUTPUT_VARIABLE nvcc_says)
string(REGEX MATCH "release ([0-9]+)\\.([0-9]+)" nvcc_says "${nvcc_says}")
set(nvcc_major "${CMAKE_MATCH_1}")
string(REGEX MATCH "^[0-9]+" torch_major "${torch_cuda}")
if(torch_cuda AND NOT nvcc_major STREQUAL torch_major)
  fastconv_without_cuda("torch is built for CUDA ${torch_cuda} and ${FASTCONV_NVCC} is of CUDA \
${nvcc_major}; they need the same major version: set CUDA_HOME to a toolkit of CUDA ${torch_major}")
endif()

set(ENV{CUDACXX} ${FASTCONV_NVCC})
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  fastconv_without_cuda("${FASTCONV_NVCC} cannot compile a program; is its C++ compiler one that \
it supports (CUDAHOSTCXX names another)?")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_ARCHITECTURES 80-real)  # the targets below say theirs
enable_language(CUDA)

# sm_90a code runs on compute capability 9.0 alone, and what comes later translates the 90 of the
# last entry.  The general kernels run from 7.5 on; those cards translate them when they are loaded.
set(TENSOR_CORE_CARDS 80-real 90a-real 90-virtual)
set(ALL_CARDS 75-virtual ${TENSOR_CORE_CARDS})
file(GLOB cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/cuda/*.cu)
file(GLOB host_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/cuda/*.cpp)
set(general_sources ${cuda_sources})
list(FILTER general_sources INCLUDE REGEX "/simt[^/]*$")
set(hopper_sources ${cuda_sources})
list(FILTER hopper_sources INCLUDE REGEX "/hopper[^/]*$")
set(tensor_core_sources ${cuda_sources})
list(FILTER tensor_core_sources EXCLUDE REGEX "/(simt|hopper)[^/]*$")

set(CUDA_OBJECTS "")
add_custom_target(cuda_kernels)  # all of them compiled, nothing linked
foreach(kind IN ITEMS general tensor_core hopper)
  if(${kind}_sources)
    add_library(cuda_${kind} OBJECT ${${kind}_sources})
    target_compile_options(cuda_${kind} PRIVATE -O3)
    set_target_properties(cuda_${kind} PROPERTIES CUDA_ARCHITECTURES "${TENSOR_CORE_CARDS}"
      CUDA_VISIBILITY_PRESET hidden)
    list(APPEND CUDA_OBJECTS $<TARGET_OBJECTS:cuda_${kind}>)
    add_dependencies(cuda_kernels cuda_${kind})
  endif()
endforeach()
set_target_properties(cuda_general PROPERTIES CUDA_ARCHITECTURES "${ALL_CARDS}")
if(TARGET cuda_hopper)
  set_target_properties(cuda_hopper PROPERTIES CUDA_ARCHITECTURES 90a-real)
endif()

if(NOT torch_cuda)
  message(STATUS "fastconv: the CUDA kernels are compiled as a check; this torch cannot use them")
  return()
endif()
message(STATUS "fastconv: CUDA kernels with ${FASTCONV_NVCC}, torch's CUDA is ${torch_cuda}")
find_package(CUDAToolkit REQUIRED)
file(GLOB operator_sources ${CMAKE_SOURCE_DIR}/csrc/ops*_cuda.cpp)
Python_add_library(_cuda MODULE USE_SABI 3.10 WITH_SOABI
  ${operator_sources} ${host_sources} ${CUDA_OBJECTS})
target_compile_definitions(_cuda PRIVATE TORCH_TARGET_VERSION=0x020a000000000000)
target_include_directories(_cuda SYSTEM PRIVATE ${TORCH_FOLDER}/include)
target_link_directories(_cuda PRIVATE ${TORCH_FOLDER}/lib)
target_link_libraries(_cuda PRIVATE torch_cuda torch_cpu c10 CUDA::cudart_static)
set_target_properties(_cuda PROPERTIES LINKER_LANGUAGE CXX)
install(TARGETS _cuda DESTINATION fastconv)
