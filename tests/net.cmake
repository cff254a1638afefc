# Tests of net.
sl_add_test(net_conn sl_net)
