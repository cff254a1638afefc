"""Agent files: both shapes, and which provider and model a name means."""

import json
import unittest

import harness


class Names(harness.Case):
    def agents(self, files, config=""):
        """{name: (provider, model)} of what loads, and the log."""
        env = {"OPENAI_API_KEY": "k" * 20, "GROQ_API_KEY": "k" * 20}
        server = self.daemon(agents={name + ".yaml": text for name, text in files.items()}, config=config, env=env)
        done = harness.sluice(server, "agents", "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return {row["name"]: (row["provider"], row["model"]) for row in rows}, server.log(), rows

    def test_provider_and_model_split_as_the_table_says(self):
        table = {
            "a": ("llama3:8b", "ollama", ("ollama", "llama3:8b")),
            "b": ("ollama:llama3:8b", None, ("ollama", "llama3:8b")),
            "c": ("llama3:8b", None, ("lab", "llama3:8b")),
            "d": ("anthropic.claude-x-v2:0", None, ("lab", "anthropic.claude-x-v2:0")),
            "e": ("openai:gpt-4o", "openai", ("openai", "gpt-4o")),
            "f": ("GPT:gpt-4o", None, ("openai", "gpt-4o")),
            "g": ("lab:x:y", None, ("lab", "x:y")),
            "h": (":x", None, None),
            "i": ("openai:", None, None),
            "j": (":x", "openai", None),
            "k": ("openai:", "openai", None),
            "l": ("bedrock:x", None, None),
            "m": ("x", "nobody", None),
        }
        files = {}
        for name, (model, provider, _) in table.items():
            files[name] = "name: %s\nmodel: %s\n" % (name, json.dumps(model))
            files[name] += "provider: %s\n" % provider if provider else ""
        lab = {"name": "lab", "kind": "openai_chat", "base_url": "http://127.0.0.1:1/v1"}
        config = json.dumps({"default_provider": "lab", "providers": [lab]})
        found, log, _ = self.agents(files, config)
        self.assertEqual({name: found.get(name) for name in table}, {name: row[2] for name, row in table.items()})
        self.assertRegex(log, r"l\.yaml:2:8: .*not supported")

    def test_without_a_default_provider_a_bare_model_is_an_error_at_its_place(self):
        found, log, _ = self.agents({"c": "name: c\nmodel: llama3:8b\n"})
        self.assertNotIn("c", found)
        self.assertRegex(log, r"c\.yaml:2:8: model: ")

    def test_both_shapes_of_a_file_load(self):
        long = "apiVersion: %s\nkind: Agent\nmetadata: {name: %s, labels: {team: ops}, annotations: {who: me}}\n"
        long += "spec: {model: 'openai:x', system_prompt: Hi}\n"
        found, log, rows = self.agents(
            {
                "a": "name: flat\nmodel: openai:x\n---\n" + long % ("sluice.dev/v1", "second"),
                "b": long % ("aof.dev/v1", "third"),
                "c": long % ("other/v1", "fourth"),
                "d": "name: both\nmodel: openai:x\ninstructions: a\nsystem_prompt: b\n",
            }
        )
        self.assertTrue({"flat", "second", "third"} <= set(found))
        self.assertFalse({"fourth", "both"} & set(found))
        self.assertEqual([row["labels"] for row in rows if row["name"] == "third"], [{"team": "ops"}])
        self.assertEqual([row["annotations"] for row in rows if row["name"] == "third"], [{"who": "me"}])
        self.assertIn("c.yaml:1:13", log)


if __name__ == "__main__":
    unittest.main(verbosity=2)
