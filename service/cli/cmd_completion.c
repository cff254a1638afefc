/* sluice completion bash|zsh|fish: a script for the shell, made from the parser's own tables.
 *
 * Agents, runs and methods are asked from the server while the person types: with the --addr of the
 * line, and for half a second at most. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/cli/cli.h"
#include "service/config.h"

typedef void(emit_flag_fn)(const struct sl_cli_command *command, const struct sl_cli_flag *flag);

/* Every option of a command: its own, then the common ones that it has. */
static void each_flag(const struct sl_cli_command *command, emit_flag_fn *emit)
{
    size_t n_common = 0;
    const struct sl_cli_flag *common = sl_cli_common_flags(&n_common);
    n_common = command->is_remote ? n_common : 0;
    for (size_t i = 0; i < command->n_flags; i++) {
        emit(command, &command->flags[i]);
    }
    for (size_t i = 0; i < n_common; i++) {
        emit(command, &common[i]);
    }
}

/* The options that the daemon's usage lists, for `sluice config`: "  --name VALUE  text". */
static void each_daemon_flag(void (*emit)(const char *name, size_t size))
{
    for (const char *at = strstr(sl_config_usage, "\n  --"); at != NULL;
         at = strstr(at + 1, "\n  --")) {
        emit(at + 3, strcspn(at + 3, " ,\n"));
    }
}

static bool is_path(const struct sl_cli_flag *flag)
{
    return flag->value != NULL &&
           (strcmp(flag->value, "FILE") == 0 || strcmp(flag->value, "DIR") == 0);
}

static bool has_words(const struct sl_cli_command *command, const char *words)
{
    return command->words != NULL && strcmp(command->words, words) == 0;
}

/* In single quotes, for a shell: none of our texts has one, but they may get one. */
static void print_quoted(const char *text)
{
    (void)putchar('\'');
    for (; *text != '\0'; text++) {
        (void)fputs(*text == '\'' ? "'\\''" : (const char[]){ *text, '\0' }, stdout);
    }
    (void)putchar('\'');
}

/* ---- What bash and zsh share ------------------------------------------------------------------
 */

/* sluice_ask COMMAND…: with the address of the line; nothing when the server does not answer. */
static const char shared_functions[] =
    "_sluice_ask() {\n"
    "    local program=$1 address=$2\n"
    "    shift 2\n"
    "    [ -z \"$address\" ] || set -- \"$@\" --addr \"$address\"\n"
    "    \"$program\" \"$@\" --timeout 500ms 2>/dev/null\n"
    "}\n"
    "_sluice_agents() { _sluice_ask \"$1\" \"$2\" agents | sed -n '2,$s/^\\([^ ][^ ]*\\).*/\\1/p'; "
    "}\n"
    "_sluice_runs() { _sluice_ask \"$1\" \"$2\" runs --limit 50 | sed -n '2,$s/^\\([^ ][^ "
    "]*\\).*/\\1/p'; "
    "}\n"
    "# The services, and behind a / their methods.\n"
    "_sluice_methods() {\n"
    "    case $3 in\n"
    "    */*) _sluice_ask \"$1\" \"$2\" call \"${3%%/*}\" | sed 's/(.*//' ;;\n"
    "    *) _sluice_ask \"$1\" \"$2\" call | sed 's/$/\\//' ;;\n"
    "    esac\n"
    "}\n";

static void emit_name(const struct sl_cli_command *command, const struct sl_cli_flag *flag)
{
    (void)command;
    (void)printf(" %s", flag->name);
}

static void emit_daemon_name(const char *name, size_t size)
{
    (void)printf(" %.*s", (int)size, name);
}

static void emit_value_case(const struct sl_cli_command *command, const struct sl_cli_flag *flag)
{
    if (flag->value != NULL) {
        (void)printf(
            "    %s:%s) echo %s ;;\n", command->name, flag->name, is_path(flag) ? "file" : "none");
    }
}

/* Three functions of the command's name: its options, what its first argument can be, and what an
 * option takes. */
static void print_tables(void)
{
    (void)fputs("_sluice_commands='", stdout);
    for (size_t i = 0; sl_cli_commands[i] != NULL; i++) {
        (void)printf("%s%s", i == 0 ? "" : " ", sl_cli_commands[i]->name);
    }
    (void)fputs(" help'\n_sluice_options() {\n    case $1 in\n", stdout);
    for (size_t i = 0; sl_cli_commands[i] != NULL; i++) {
        (void)printf("    %s) echo '--help", sl_cli_commands[i]->name);
        each_flag(sl_cli_commands[i], emit_name);
        if (sl_cli_commands[i] == &sl_cmd_config) {
            each_daemon_flag(emit_daemon_name);
        }
        (void)fputs("' ;;\n", stdout);
    }
    (void)fputs("    esac\n}\n_sluice_first() {\n    case $1 in\n", stdout);
    for (size_t i = 0; sl_cli_commands[i] != NULL; i++) {
        if (sl_cli_commands[i]->words != NULL) {
            (void)printf(
                "    %s) echo '%s' ;;\n", sl_cli_commands[i]->name, sl_cli_commands[i]->words);
        }
    }
    (void)fputs("    esac\n}\n_sluice_value() {\n    case $1 in\n", stdout);
    for (size_t i = 0; sl_cli_commands[i] != NULL; i++) {
        each_flag(sl_cli_commands[i], emit_value_case);
    }
    (void)fputs("    esac\n}\n", stdout);
    (void)fputs(shared_functions, stdout);
}

static void print_bash(void)
{
    (void)fputs("# bash: source <(sluice completion bash)\n", stdout);
    print_tables();
    (void)fputs(
        "_sluice() {\n"
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
        "    local command=${COMP_WORDS[1]} address= words= i\n"
        "    COMPREPLY=()\n"
        "    for ((i = 1; i < COMP_CWORD - 1; i++)); do\n"
        "        [ \"${COMP_WORDS[i]}\" != --addr ] || address=${COMP_WORDS[i + 1]}\n"
        "        # A port's colon is a word of its own.\n"
        "        if [ -n \"$address\" ] && [ \"${COMP_WORDS[i + 2]}\" = : ]; then\n"
        "            address=$address:${COMP_WORDS[i + 3]}\n"
        "            break\n"
        "        fi\n"
        "    done\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
        "        words=\"$_sluice_commands --help --version\"\n"
        "    elif [ \"${cur#-}\" != \"$cur\" ]; then\n"
        "        words=$(_sluice_options \"$command\")\n"
        "    elif [ \"${prev#-}\" != \"$prev\" ] && [ -n \"$(_sluice_value \"$command:$prev\")\" "
        "]; then\n"
        "        [ \"$(_sluice_value \"$command:$prev\")\" = file ] || return 0\n"
        "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
        "        return 0\n"
        "    else\n"
        "        words=$(_sluice_first \"$command\")\n"
        "        case $words in\n"
        "        '<agents>') words=$(_sluice_agents \"${COMP_WORDS[0]}\" \"$address\") ;;\n"
        "        '<runs>') words=$(_sluice_runs \"${COMP_WORDS[0]}\" \"$address\") ;;\n"
        "        '<methods>') words=$(_sluice_methods \"${COMP_WORDS[0]}\" \"$address\" \"$cur\")\n"
        "            compopt -o nospace 2>/dev/null ;;\n"
        "        '<files>') mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return 0 ;;\n"
        "        esac\n"
        "    fi\n"
        "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
        "}\n"
        "complete -F _sluice sluice\n",
        stdout);
}

static void print_zsh(void)
{
    (void)fputs("#compdef sluice\n# zsh: source <(sluice completion zsh)\n", stdout);
    print_tables();
    (void)fputs(
        "_sluice() {\n"
        "    local cur=${words[CURRENT]} prev=${words[CURRENT-1]} command=${words[2]}\n"
        "    local address= found= i\n"
        "    for ((i = 2; i < CURRENT - 1; i++)); do\n"
        "        [[ ${words[i]} == --addr ]] && address=${words[i+1]}\n"
        "    done\n"
        "    if ((CURRENT == 2)); then\n"
        "        found=\"$_sluice_commands --help --version\"\n"
        "    elif [[ $cur == -* ]]; then\n"
        "        found=$(_sluice_options $command)\n"
        "    elif [[ $prev == -* && -n $(_sluice_value $command:$prev) ]]; then\n"
        "        [[ $(_sluice_value $command:$prev) == file ]] && _files\n"
        "        return\n"
        "    else\n"
        "        found=$(_sluice_first $command)\n"
        "        case $found in\n"
        "        '<agents>') found=$(_sluice_agents ${words[1]} \"$address\") ;;\n"
        "        '<runs>') found=$(_sluice_runs ${words[1]} \"$address\") ;;\n"
        "        '<methods>') found=$(_sluice_methods ${words[1]} \"$address\" \"$cur\")\n"
        "            compadd -S '' -- ${=found}; return ;;\n"
        "        '<files>') _files; return ;;\n"
        "        esac\n"
        "    fi\n"
        "    compadd -- ${=found}\n"
        "}\n"
        "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n"
        "compdef _sluice sluice\n",
        stdout);
}

/* ---- fish -------------------------------------------------------------------------------------
 */

static void emit_fish_flag(const struct sl_cli_command *command, const struct sl_cli_flag *flag)
{
    (void)printf(
        "complete -c sluice -n '__fish_seen_subcommand_from %s' -l %s", command->name,
        flag->name + 2);
    if (flag->value != NULL) {
        (void)fputs(is_path(flag) ? " -r -F" : " -x", stdout);
    }
    (void)fputs(" -d ", stdout);
    print_quoted(flag->text);
    (void)putchar('\n');
}

static void emit_fish_daemon_flag(const char *name, size_t size)
{
    (void)printf(
        "complete -c sluice -n '__fish_seen_subcommand_from config' -l %.*s\n", (int)size - 2,
        name + 2);
}

static void print_fish_words(const struct sl_cli_command *command)
{
    if (command->words == NULL) {
        return;
    }
    (void)printf("complete -c sluice -n '__fish_seen_subcommand_from %s' ", command->name);
    if (has_words(command, "<files>")) {
        (void)puts("-F");
    } else if (has_words(command, "<agents>")) {
        (void)puts("-a '(__sluice_agents)'");
    } else if (has_words(command, "<runs>")) {
        (void)puts("-a '(__sluice_runs)'");
    } else if (has_words(command, "<methods>")) {
        (void)puts("-a '(__sluice_methods)'");
    } else {
        (void)printf("-a '%s'\n", command->words);
    }
}

static void print_fish(void)
{
    (void)fputs(
        "# fish: sluice completion fish | source\n"
        "function __sluice_ask\n"
        "    set -l line (commandline -opc)\n"
        "    set -l at (contains -i -- --addr $line)\n"
        "    set -l address\n"
        "    test -n \"$at\"; and test (count $line) -gt $at; and set address --addr $line[(math "
        "$at + 1)]\n"
        "    $line[1] $argv --timeout 500ms $address 2>/dev/null\n"
        "end\n"
        "function __sluice_agents\n"
        "    __sluice_ask agents | sed -n '2,$s/^\\([^ ][^ ]*\\).*/\\1/p'\n"
        "end\n"
        "function __sluice_runs\n"
        "    __sluice_ask runs --limit 50 | sed -n '2,$s/^\\([^ ][^ ]*\\).*/\\1/p'\n"
        "end\n"
        "function __sluice_methods\n"
        "    set -l service (string split -m 1 / -- (commandline -ct))\n"
        "    if test (count $service) -gt 1\n"
        "        __sluice_ask call $service[1] | sed 's/(.*//'\n"
        "    else\n"
        "        __sluice_ask call | sed 's/$/\\//'\n"
        "    end\n"
        "end\n"
        "complete -c sluice -f\n",
        stdout);
    for (size_t i = 0; sl_cli_commands[i] != NULL; i++) {
        const struct sl_cli_command *command = sl_cli_commands[i];
        (void)printf("complete -c sluice -n __fish_use_subcommand -a %s -d ", command->name);
        print_quoted(command->text);
        (void)putchar('\n');
        print_fish_words(command);
        each_flag(command, emit_fish_flag);
        if (command == &sl_cmd_config) {
            each_daemon_flag(emit_fish_daemon_flag);
        }
    }
}

/* -----------------------------------------------------------------------------------------------
 */

static int run_completion(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = { { "bash", print_bash }, { "zsh", print_zsh }, { "fish", print_fish } };
    struct sl_cli_options options;
    const enum sl_status parsed = sl_cli_parse(&options, &sl_cmd_completion, NULL, &argc, argv);
    for (size_t i = 0; parsed == SL_OK && argc == 1 && i < SL_COUNT(shells); i++) {
        if (strcmp(argv[0], shells[i].name) == 0) {
            shells[i].print();
            return SL_EXIT_DONE;
        }
    }
    return sl_cli_usage(&sl_cmd_completion);
}

const struct sl_cli_command sl_cmd_completion = {
    .name = "completion",
    .arguments = "bash|zsh|fish",
    .text = "print a completion script: source <(sluice completion bash)",
    .run = run_completion,
    .words = "bash zsh fish",
};
