#!/bin/sh
# A compiler launcher (CMAKE_CXX_COMPILER_LAUNCHER): reads and checks a source, templates included, and
# leaves an empty object. Precompiled headers are made.
case " $* " in *" c++-header "*) exec "$@" ;; esac
"$@" -fsyntax-only || exit 1
while [ "$1" != -o ]; do shift; done
: > "$2"
