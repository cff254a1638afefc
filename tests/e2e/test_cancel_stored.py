"""The same as test_cancel_run.py with a store (AL-7.4): what a cancel leaves there is what its readers saw, also after a restart."""

import tempfile

import harness
from run_case import CANCELLED, STATE_CANCELLED
from test_cancel_run import States


class Recorded:
    """The table once more. When a state is done, the server is started anew, and has the runs from its store only."""

    def start(self, scenario=None, tools=(), flags=(), **options):
        self.path = tempfile.mkdtemp(prefix="sluice-store-") + "/runs.db"
        self.seen, self.wires = {}, []
        options.setdefault("durability", self.durability)
        super().start(scenario, tools, ("--store", self.path, *flags), **options)

    def wire(self, **more):
        self.wires.append(super().wire(**more))
        return self.wires[-1]

    def check_cancelled(self, run_id, reason, readers, is_quiet=True):
        events, seen = super().check_cancelled(run_id, reason, readers, is_quiet)
        wire, stream = readers[0]
        self.seen[run_id] = bytes(wire.reply(stream).data)
        return events, seen

    def cancelled(self, *words, **options):
        super().cancelled(*words, **options)
        self.assertEqual(len(self.seen), 2)
        self.restart()
        for run_id, data in self.seen.items():
            wire, stream = self.attach(run_id)
            reply = wire.wait_over(stream)
            self.assertEqual((reply.status(), reply.error_info()[0]), (CANCELLED, "CANCELLED"), reply)
            self.assertEqual(bytes(reply.data), data, "the bytes that were sent")
            self.assertEqual(self.cancel(run_id), STATE_CANCELLED, "and it stays so")

    def restart(self):
        for wire in self.wires:
            wire.close()
        self.server.stop()
        self.server = self.daemon(flags=("--store", self.path))

    # Of runs that are not recorded, or not there:
    test_calls_that_wait_for_a_slot_have_no_run_to_cancel = None
    test_after_the_terminal_event = None


class Async(Recorded, States):
    durability = "ASYNC"


class Sync(Recorded, States):
    durability = "SYNC"


del States  # it has a program of its own


if __name__ == "__main__":
    harness.main()
