# Tests of h2.
