# Tests of codegen.
