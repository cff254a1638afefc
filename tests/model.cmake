# Tests of model.
sl_add_test(builtin_models sl_model sl_fake)
