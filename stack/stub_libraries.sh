#!/bin/sh
# Which libraries does torch's CUDA build link that nothing on a CPU calls? This writes a stub in place of each.
# Usage: stub_libraries.sh OUT TORCH INSTALLED   TORCH is the folder of torch's libraries. What is in the folder
# INSTALLED gets no stub. Needs cc, nm and readelf.
#
# When torch is imported, the loader wants each library that torch links, and each function that torch takes from it.
# CUDA's are 3 GB. A stub is some kB: it has the names of these functions, and ends the process if one is called.
set -eu
out=$1 torch=$2 installed=$3
work=$(mktemp -d)
nm --dynamic --undefined-only --format=posix "$torch"/*.so | awk '$2 == "U" {print $1}' | sort -u >"$work/wanted"
readelf --dynamic "$torch"/*.so | sed -n 's/.*(NEEDED).*\[\(lib[cn].*\)\]/\1/p' | sort -u | while read -r library; do
  version=$library   # as most of them name the version of their functions
  case $library in
    libcuda.so.*) continue ;;   # the driver's
    libnvshmem*) names='^nvshmem' version=NVSHMEM ;;
    libnccl*) names='^nccl' ;;
    libcufile*) names='^cuFile' ;;
    libcusparseLt*) names='^cusparseLt' ;;
    libcu* | libnv*) names='^$' ;;
    *) continue ;;   # the system's
  esac
  if [ -n "$(find "$installed" -name "$library")" ]; then continue; fi
  { grep "$names" "$work/wanted" || true; grep "@$library\$" "$work/wanted" || true; } | sed 's/@.*//' | sort -u |
    sed 's/.*/void &(void) { __builtin_trap(); }/' >"$work/stub.c"
  echo "$version { *; };" >"$work/versions"
  cc -w -shared -nostdlib -fPIC -Wl,-soname,"$library" -Wl,--version-script="$work/versions" -o "$out/$library" "$work/stub.c"
  echo "$library: a stub with $(wc -l <"$work/stub.c") functions"
done
rm -r "$work"
