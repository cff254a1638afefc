# Makes the manual pages of the library out of its installed headers, and nothing else:
#   LC_ALL=C awk -v out=DIR -v date="November 28, 2026" -f man.awk include/sluice/PART.h...
#     ->  DIR/sluice-rpc-PART.3, and DIR/FUNCTION.3 for each function of it, which leads there
#
# It knows how the headers are written. The first comment is what the page begins with, and its first sentence, cut at
# a colon when it is long, is the line behind the name. A comment just above a declaration is that declaration's; one
# with an empty line below stands for itself; "/* ---- Title ---- */" is a heading. In a comment, indented lines are
# shown as they are, `x` is x in italics, and "Owns:", "Thread:" and "Fails:" begin paragraphs. A function without a
# comment is a mistake.

function die(text) {
    print "man.awk: " part ".h: " text >"/dev/stderr"
    failed = 1
    exit 1
}

# ---- roff -------------------------------------------------------------------------------------------------------------

# A line of text: `x`, f().
function roff(line,    before, name) {
    gsub(/\\/, "\\e", line)
    gsub(/[A-Za-z0-9]*_[A-Za-z0-9_]+|[A-Z][A-Z]+/, "\\%&", line) # not hyphenated
    while (match(line, /`[^`]+`/)) {
        before = substr(line, 1, RSTART - 1)
        name = substr(line, RSTART + 1, RLENGTH - 2)
        line = before "\\fI" name "\\fP" substr(line, RSTART + RLENGTH)
    }
    gsub(/sl_[a-z0-9_]+\(\)/, "\\fB&\\fP", line)
    gsub(/-[0-9]/, "\\\\&", line) # a minus is no hyphen
    return line
}

# A line that is shown as it is.
function literal(line) {
    gsub(/\\/, "\\e", line)
    gsub(/-/, "\\-", line)
    gsub(/'/, "\\(aq", line)
    gsub(/`/, "\\(ga", line)
    return guarded(line)
}

function add(line) { body = body line "\n" }

# Between what stands in the body and a paragraph.
function begin_paragraph() {
    if (!is_fresh) add(".Pp")
    is_fresh = 0
}

function add_paragraph(text,    at) {
    if (text == "") return
    begin_paragraph()
    # Sentences begin their own line, and each of the three words its own paragraph.
    while (match(text, /[.;)] (Owns|Thread|Fails)[^.:;]*: /)) {
        at = RSTART
        add_sentences(substr(text, 1, at))
        add(".Pp")
        text = substr(text, at + 2)
    }
    add_sentences(text)
}

function add_sentences(text,    n, i, sentence, label) {
    label = ""
    if (match(text, /^(Owns|Thread|Fails)[^.:;]*:/)) {
        label = "\\fI" substr(text, 1, RLENGTH - 1) "\\fP"
        text = substr(text, RLENGTH)
    }
    gsub(/\. /, ".\n", text)
    n = split(text, sentence, "\n")
    for (i = 1; i <= n; i++) add_folded((i == 1 ? label : "") roff(sentence[i]))
}

function add_folded(line,    i) {
    while (length(line) > 79) {
        for (i = 79; i > 1 && substr(line, i, 1) != " "; i--) continue
        if (i <= 1) break
        add(guarded(substr(line, 1, i - 1)))
        line = substr(line, i + 1)
    }
    add(guarded(line))
}

# What begins with these would be a request.
function guarded(line) { return line ~ /^[.\047]/ ? "\\&" line : line }

# A comment with its paragraphs and displays.
function add_comment(comment,    line, n, i, text, is_display) {
    n = split(comment, line, "\n")
    text = ""
    is_display = 0
    for (i = 1; i <= n; i++) {
        if (line[i] ~ /^  /) {
            if (!is_display) {
                add_paragraph(text)
                text = ""
                add(".Bd -literal")
                is_display = 1
            }
            add(literal(substr(line[i], 3)))
            continue
        }
        if (is_display) {
            add(".Ed")
            is_display = is_fresh = 0
        }
        if (line[i] == "") {
            add_paragraph(text)
            text = ""
        } else {
            text = text (text == "" ? "" : " ") line[i]
        }
    }
    if (is_display) {
        add(".Ed")
        is_fresh = 0
    }
    add_paragraph(text)
}

function add_lines(code,    line, n, i) {
    n = split(code, line, "\n")
    for (i = 1; i < n; i++) {
        sub(/  +\\$/, " \\", line[i])
        add(literal(line[i]))
    }
}

function add_code(code) {
    add(".Bd -literal")
    add_lines(code)
    add(".Ed")
    is_fresh = 0
}

# The first sentence, for the line behind the name.
function headline(comment,    n, line, i, text) {
    n = split(comment, line, "\n")
    text = ""
    for (i = 1; i <= n && line[i] != "" && line[i] !~ /^  /; i++) text = text (i > 1 ? " " : "") line[i]
    sub(/\. .*/, "", text)
    sub(/\.$/, "", text)
    while (length(text) > 80 && text ~ /: /) sub(/: ([^:]|:[^ ])*$/, "", text)
    gsub(/`/, "", text)
    gsub(/"/, "\\(dq", text)
    return text ~ /^[A-Z][a-z ]/ ? tolower(substr(text, 1, 1)) substr(text, 2) : text
}

# ---- Declarations -------------------------------------------------------------------------------------------------------

function open_list() {
    if (!in_list) add(".Bl -tag -width Ds")
    in_list = 1
}

function close_list() {
    if (!in_list) return
    add(".El")
    in_list = is_fresh = 0
}

# Cuts "a, int (*b)(c, d)" at its outer commas.
function add_arguments(text,    i, c, depth, from) {
    depth = 0
    from = 1
    for (i = 1; i <= length(text) + 1; i++) {
        c = i > length(text) ? "," : substr(text, i, 1)
        if (c == "(") depth++
        if (c == ")") depth--
        if (c == "," && depth == 0) {
            c = substr(text, from, i - from)
            gsub(/^ +| +$/, "", c)
            synopsis = synopsis ".Fa \"" c "\"\n"
            from = i + 1
        }
    }
}

# A prototype, or a macro that is used as a function.
function add_function(code, comment,    name, type, arguments) {
    gsub(/[ \n]+/, " ", code)
    sub(/ $/, "", code)
    sub(/^#define /, "", code)
    gsub(/SL_CHECK |SL_PRINTF\([^)]*\) |static inline /, "", code)
    if (!match(code, /sl_[a-z0-9_]+\(/)) die("this is no function: " code)
    name = substr(code, RSTART, RLENGTH - 1)
    type = substr(code, 1, RSTART - 1)
    arguments = substr(code, RSTART + RLENGTH)
    sub(/ +$/, "", type)
    if (code ~ /;$/) sub(/\);$/, "", arguments) # a callback among them has parentheses of its own
    else sub(/\).*/, "", arguments)
    if (comment == "") die(name "() has no comment")
    if (type != "") synopsis = synopsis ".Ft \"" type "\"\n"
    synopsis = synopsis ".Fo " name "\n"
    add_arguments(arguments)
    synopsis = synopsis ".Fc\n"
    names[++n_names] = name
    open_list()
    add(".It Fn " name)
    is_fresh = 1
    add_comment(comment)
    is_after_code = 0
}

# Anything else: a type, a constant, a macro. Without a comment it goes with the one before.
function add_other(code, comment,    tag) {
    if (comment == "" && is_after_code) {
        sub(/\.Ed\n$/, "", body)
        add_lines(code)
        add(".Ed")
        return
    }
    if (code ~ /^#define/) {
        match(code, /[A-Z][A-Z0-9_]+/)
        tag = "Dv " substr(code, RSTART, RLENGTH)
    } else if (match(code, /^(struct|enum) sl_[a-z0-9_]+/)) {
        tag = "Vt \"" substr(code, RSTART, RLENGTH) "\""
    } else if (match(code, /\(sl_[a-z0-9_]+\)/)) {
        tag = "Vt " substr(code, RSTART + 1, RLENGTH - 2)
    } else die("what is this? " code)
    open_list()
    add(".It " tag)
    is_fresh = 1
    add_comment(comment)
    add_code(code)
    is_after_code = 1
}

# A comment that no declaration follows.
function add_free(comment) {
    if (head == "") {
        head = comment
        return
    }
    close_list()
    add_comment(comment)
    is_after_code = 0
}

function add_heading(comment) {
    gsub(/^-+ | -+ *$/, "", comment)
    close_list()
    add(".Ss " comment)
    is_fresh = 1
    is_after_code = 0
}

# ---- Pages --------------------------------------------------------------------------------------------------------------

function begin_page(file) {
    part = file
    sub(/.*\//, "", part)
    sub(/\.h$/, "", part)
    head = body = synopsis = pending = ""
    n_names = n_related = in_list = in_body = in_comment = is_after_code = 0
    is_fresh = 1
    state = ""
}

function end_page(    page, i, text) {
    if (part == "") return
    if (state != "") die("the last declaration does not end")
    if (head == "") die("it has no comment that could begin a page")
    close_list()
    text = body
    body = ""
    is_fresh = 1
    add_comment(head)
    page = out "/sluice-rpc-" part ".3"
    printf ".\\\" Made from sluice/%s.h by package/man.awk.\n.Dd %s\n.Dt SLUICE-RPC-%s 3\n.Os\n", part, date, toupper(part) >page
    printf ".Sh NAME\n.Nm sluice-rpc-%s", part >page
    for (i = 1; i <= n_names; i++) printf " ,\n.Nm %s", names[i] >page
    printf "\n.Nd %s\n.Sh SYNOPSIS\n.In sluice/rpc.h\n%s.Sh DESCRIPTION\n%s%s.Sh SEE ALSO\n", headline(head), synopsis, body, text >page
    for (i = 1; i <= n_related; i++) printf ".Xr sluice-rpc-%s 3 ,\n", related[i] >page
    printf ".Xr sluice-rpc 7\n" >page
    close(page)
    for (i = 1; i <= n_names; i++) {
        printf ".so man3/sluice-rpc-%s.3\n", part >(out "/" names[i] ".3")
        close(out "/" names[i] ".3")
    }
}

# Keeps the list sorted, as mandoc wants it.
function add_related(name,    i) {
    for (i = ++n_related; i > 1 && related[i - 1] > name; i--) related[i] = related[i - 1]
    related[i] = name
}

function take_declaration(    code) {
    code = state
    state = ""
    if (code ~ /^struct sl_[a-z0-9_]+;\n$/) return # opaque, and of another page, or of the functions below
    if (code ~ /^#define sl_/ || code !~ /^(#|typedef|struct [a-z_]+ \{|struct [a-z_]+;|enum [a-z_]+ \{)/) add_function(code, pending)
    else add_other(code, pending)
    pending = ""
}

FNR == 1 {
    end_page()
    begin_page(FILENAME)
}

/^#include <sluice\// {
    gsub(/^#include <sluice\/|\.h>$/, "")
    add_related($0)
    next
}

in_comment || (state == "" && /^\/\*/) {
    line = $0
    is_end = line ~ /\*\/$/
    sub(/ *\*\/$/, "", line)
    sub(/^(\/\*| \*) ?/, "", line)
    if (!in_comment) {
        if (pending != "") add_free(pending)
        pending = line
    } else if (!is_end || line != "") {
        pending = pending "\n" line
    }
    in_comment = !is_end
    if (!in_comment && pending ~ /^----/) {
        add_heading(pending)
        pending = ""
    }
    next
}

state == "" && (/^#(ifndef|ifdef|endif|include)/ || /^#define SLUICE_[A-Z_]+_H$/ || /^extern "C" \{$/ || /^\}$/) {
    if (pending != "") add_free(pending)
    pending = ""
    next
}

state == "" && /^$/ {
    if (pending != "") add_free(pending)
    pending = ""
    is_after_code = 0
    next
}

state == "" {
    closing = /^#/ ? "#" : /^static inline/ ? "}" : /^(struct|enum) [a-z0-9_]+ \{$/ ? "};" : ";"
}

{
    state = state $0 "\n"
    if (closing == "#" ? !/\\$/ : closing == ";" ? /;( *\/\*.*\*\/)?$/ : $0 == closing) take_declaration()
}

END {
    if (!failed) end_page()
    if (failed) exit 1
}
