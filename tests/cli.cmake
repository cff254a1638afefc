# Tests of cli.
sl_add_test(config sl_config)
sl_add_test(histogram sl_cli_parts)
sl_add_test(message_json sl_cli_parts)
sl_add_test(mock_conn sl_cli_parts)
sl_add_test(options sl_cli_parts)
sl_add_test(text sl_cli_parts)
sl_add_test(view sl_cli_parts sl_fake)
sl_add_fuzzer(event_json FOREIGN sl_cli_parts)
