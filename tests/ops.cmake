# Tests of service/ops.
sl_add_test(ops sl_ops)
