# Tests of api.
sl_add_test(agents rpc_peer sl_api)
sl_add_test(convert sl_api)
sl_add_test(descriptors sl_std sl_golden_proto)
sl_add_test(execute sl_api sl_rpc sl_event_order rpc_peer)
sl_add_test(identify rpc_peer sl_api)
sl_add_test(health rpc_peer sl_std sl_fake)
sl_add_test(reflection rpc_peer sl_std sl_golden_proto)
sl_add_test(runs sl_api sl_rpc rpc_peer)
