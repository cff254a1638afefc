# Tests of exec.
