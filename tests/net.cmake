# Tests of net.
sl_add_test(net_conn sl_net)
sl_add_test(net_connect sl_net)
sl_add_test(net_tls sl_net PkgConfig::SSL)
sl_add_test(net_loops sl_net)
sl_add_test(net_names sl_net PkgConfig::SSL)
