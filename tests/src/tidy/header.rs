//! The header as a manual: nothing in it goes without its words.

use super::{Rule, Tree};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "every function of the header has its marks",
        check: functions,
        broken: &[(
            HEADER,
            "/* Takes.\n * One thread. Fails: LUCK. */\ntn_status tn_take(void);\n",
        )],
    },
    Rule {
        name: "every type of the header is described",
        check: types,
        broken: &[(HEADER, "typedef int32_t tn_color;\n")],
    },
    Rule {
        name: "every field of the header is described",
        check: fields,
        broken: &[(
            HEADER,
            "typedef struct tn_box {\n  size_t struct_size;\n  int lid;\n} tn_box;\n",
        )],
    },
    Rule {
        name: "refusals that are tested are among a function's codes",
        check: refusals,
        broken: &[(HEADER, BROKEN), ("tests/c/bad.c", "  REFUSED(ARGUMENT, tn_take(1));\n")],
    },
];

const HEADER: &str = "ffi/include/tenon.h";

const BROKEN: &str = "\
enum {
  TN_ERROR_IO = 5
};
/* One thread. Fails: IO. Since 100. */
tn_status tn_take(int x);
";

/// What the last line of a function's description may begin with.
const THREADS: &[&str] = &["Any thread. ", "One thread. "];

/// A declaration that begins at the left margin, with the comment right above it.
struct Declared<'a> {
    line: &'a str,
    words: String,
}

/// The function that it declares, if it does.
fn function<'a>(declared: &Declared<'a>) -> Option<&'a str> {
    let (before, _) = declared.line.split_once('(')?;
    let name = &before[before.rfind(['*', ' '])? + 1..];
    (name.starts_with("tn_") && !declared.line.starts_with("typedef")).then_some(name)
}

fn declarations(text: &str) -> Vec<Declared<'_>> {
    let (mut found, mut words, mut inside) = (Vec::new(), String::new(), false);
    for line in text.lines() {
        let comment = inside || line.starts_with("/*");
        if comment {
            if !inside {
                words.clear();
            }
            inside = !line.ends_with("*/");
            let line = line.trim_start_matches("/*").trim_end_matches("*/");
            words += line.trim().trim_start_matches('*').trim();
            words.push(' ');
        } else {
            if line.starts_with("tn_") || line.starts_with(char::is_alphabetic) {
                found.push(Declared { line, words: words.trim().to_owned() });
            }
            words.clear();
        }
    }
    found.retain(|d| !d.line.starts_with("static inline") && !d.line.starts_with("extern"));
    found
}

/// Codes that a function's marks name; `Err` says what is wrong with them.
fn codes(text: &str, declared: &Declared) -> Result<Vec<String>, String> {
    let start = THREADS.iter().filter_map(|t| declared.words.rfind(t)).max();
    let marks = start.map(|s| &declared.words[s..]).ok_or("does not say from which threads")?;
    let (_, marks) = marks.split_once(". ").unwrap_or_default();
    let (fails, since) = marks.split_once(". Since ").ok_or("does not say since when")?;
    let version = |s: &str| s.trim().parse::<u32>().ok();
    let latest = text.split("#define TN_VERSION ").nth(1).and_then(|t| version(t.lines().next()?));
    let since = since.strip_suffix('.').and_then(version);
    if since.is_none_or(|since| latest.is_some_and(|latest| since > latest)) {
        return Err("is of no version".to_owned());
    }
    let can_fail = declared.line.starts_with("tn_status");
    match fails.strip_prefix("Fails: ") {
        Some(codes) if can_fail => {
            let codes: Vec<_> = codes.split(", ").map(|c| c.trim().to_owned()).collect();
            let known = |code: &String| text.contains(&format!(" TN_ERROR_{code} = "));
            match codes.iter().find(|code| !known(code)) {
                Some(code) => Err(format!("fails with {code}, which is no code")),
                None => Ok(codes),
            }
        }
        None if fails == "Never fails" && !can_fail => Ok(Vec::new()),
        _ => Err("does not say how it fails".to_owned()),
    }
}

fn functions(tree: &Tree) -> Vec<String> {
    let text = tree.get(HEADER);
    let all = declarations(text);
    let named = all.iter().filter_map(|d| Some((function(d)?, codes(text, d).err()?)));
    named.map(|(name, why)| format!("{HEADER}: {name} {why}")).collect()
}

/// Handles, which the manual describes, and what goes on after its first line, need no words.
fn types(tree: &Tree) -> Vec<String> {
    let all = declarations(tree.get(HEADER));
    let is_handle = |line: &str| line.starts_with("typedef struct") && line.ends_with(';');
    let typedefs = all.iter().filter(|d| d.line.starts_with("typedef") && !is_handle(d.line));
    let silent = typedefs.filter(|d| d.words.is_empty());
    silent.map(|d| format!("{HEADER}: no words above `{}`", d.line)).collect()
}

/// The words of a field stand beside it or right above.
fn fields(tree: &Tree) -> Vec<String> {
    const PLAIN: &[&str] = &["size_t struct_size;"];
    let (mut broken, mut inside, mut above, mut commented) = (Vec::new(), false, false, false);
    for line in tree.get(HEADER).lines() {
        inside = (inside || line.starts_with("typedef struct") && line.ends_with('{'))
            && !line.starts_with('}');
        let in_comment = commented;
        if let Some(at) = line.rfind("/*") {
            commented = !line[at..].contains("*/");
        } else if line.contains("*/") {
            commented = false;
        }
        let text = line.trim();
        let is_field = inside && !in_comment && text.contains(';') && !text.starts_with("/*");
        if is_field && !above && !text.contains("/*") && !PLAIN.contains(&text) {
            broken.push(format!("{HEADER}: no words for the field `{text}`"));
        }
        above = text.starts_with("/*") || in_comment && text.ends_with("*/");
    }
    broken
}

fn refusals(tree: &Tree) -> Vec<String> {
    let (text, mut broken) = (tree.get(HEADER), Vec::new());
    let all = declarations(text);
    let tests = tree.ending(".c").filter(|(path, _)| path.starts_with("tests/c/"));
    for (path, program) in tests {
        for refused in program.split("REFUSED(").skip(1) {
            let Some((code, call)) = refused.split_once(", ") else { continue };
            let code = code.trim_start_matches("TN_ERROR_");
            let name = call.split('(').next().unwrap_or_default();
            // A variable's name is no code.
            let known = text.contains(&format!(" TN_ERROR_{code} = ")) || code == "ARGUMENT";
            let declared = all.iter().find(|d| function(d) == Some(name)).filter(|_| known);
            let Some(Ok(codes)) = declared.map(|d| codes(text, d)) else { continue };
            if !codes.iter().any(|c| c == code) {
                broken.push(format!("{path}: {name} fails with {code}, which its words leave out"));
            }
        }
    }
    broken
}
