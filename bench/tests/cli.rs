//! The `tenon` program as its users meet it: results, resuming, and mistakes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;

const TENON: &str = env!("CARGO_BIN_EXE_tenon");

/// A fresh folder for one test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn tenon(folder: &Path, arguments: &str) -> Output {
    let arguments = arguments.split_whitespace();
    Command::new(TENON).args(arguments).current_dir(folder).output().unwrap()
}

/// Output that must be objects, one a line.
fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each step's number and loss, as printed: the shortest text that names the bits.
fn losses(output: &Output) -> Vec<(u64, String)> {
    objects(output).iter().filter(|o| o.get("summary").is_none()).map(loss).collect()
}

fn loss(step: &Value) -> (u64, String) {
    (step["step"].as_u64().unwrap(), step["loss"].to_string())
}

/// The one line that a mistake must give, with a failing exit.
fn mistake(folder: &Path, arguments: &str) -> String {
    let output = tenon(folder, arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments}: {told}");
    assert!(told.starts_with("error: ") && told.lines().count() == 1, "{arguments}: {told}");
    told
}

/// A GGUF header with the given architecture and one f32 tensor.
fn gguf(architecture: &str, dims: [u64; 2]) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    file.extend(3u32.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    text(&mut file, "general.architecture");
    file.extend(8u32.to_le_bytes());
    text(&mut file, architecture);
    text(&mut file, "token_embd.weight");
    file.extend(2u32.to_le_bytes());
    dims.iter().for_each(|d| file.extend(d.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32) + 64, 0);
    file
}

#[test]
fn training_from_nothing_learns() {
    let output = tenon(&folder("learns"), "train --steps 20 --json");
    let lines = objects(&output);
    assert_eq!(lines.len(), 21);
    for (i, line) in lines[..20].iter().enumerate() {
        assert_eq!(line["step"], i + 1);
        assert!(line["tokens_per_s"].as_f64().unwrap() > 0.0 && line["lr"].as_f64().is_some());
    }
    let summary = &lines[20];
    assert_eq!(summary["summary"], true);
    assert_eq!(summary["first_loss"], lines[0]["loss"]);
    assert_eq!(summary["last_loss"], lines[19]["loss"]);
    let number = |name: &str| summary[name].as_f64().unwrap();
    assert!(number("last_loss") < 0.7 * number("first_loss"), "{summary}");
    assert!(number("measured_peak_bytes") <= number("planned_peak_bytes"), "{summary}");
    assert!(number("measured_peak_bytes") >= 0.9 * number("planned_peak_bytes"), "{summary}");
}

#[test]
fn a_trace_holds_every_node_of_the_last_step() {
    let folder = folder("trace");
    let step = objects(&tenon(&folder, "train --steps 2 --trace trace.json --json"))[1].clone();
    let text = fs::read_to_string(folder.join("trace.json")).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let number = |event: &Value, key: &str| event[key].as_f64().unwrap();
    assert!(events.len() > 100);
    assert!(
        events.is_sorted_by(|a, b| number(a, "ts") + number(a, "dur") <= number(b, "ts") + 0.01)
    );
    // The nodes fit into the step: 8 x 128 tokens at the rate it tells.
    let microseconds: f64 = events.iter().map(|event| number(event, "dur")).sum();
    let tokens = microseconds * 1e-6 * step["tokens_per_s"].as_f64().unwrap();
    assert!(tokens > 0.0 && tokens < 1.01 * 1024.0, "{tokens}");
    for name in ["linear", "attention_grad", "adamw"] {
        let event = events.iter().find(|event| event["name"] == name).expect(name);
        assert!(number(&event["args"], "bytes") > 0.0);
        assert!(event["args"]["operands"].as_str().unwrap().contains("f32"));
    }
}

#[test]
fn threads_change_no_bit() {
    let folder = folder("threads");
    let one = losses(&tenon(&folder, "train --steps 6 --threads 1 --json"));
    assert_eq!(one.len(), 6);
    assert_eq!(one, losses(&tenon(&folder, "train --steps 6 --threads 2 --json")));
    assert_ne!(one, losses(&tenon(&folder, "train --steps 6 --seed 1 --json")));
}

#[test]
fn a_killed_run_resumes_with_the_same_bits() {
    let folder = folder("killed");
    let options = "train --batch 2 --accumulate 2 --steps 30 --optimizer-state int8 --json";
    let whole = losses(&tenon(&folder, options));
    let mut run = Command::new(TENON)
        .args(options.split_whitespace())
        .args(["--save", "run.ckpt", "--save-every", "3"])
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(run.stdout.take().unwrap()).lines();
    for line in lines {
        let (step, _) = loss(&serde_json::from_str(&line.unwrap()).unwrap());
        if step == 10 {
            break;
        }
    }
    // SIGKILL on Unix: no handler runs.
    run.kill().unwrap();
    run.wait().unwrap();
    let resumed = losses(&tenon(&folder, &format!("{options} --resume run.ckpt")));
    assert!((9..30).contains(&(30 - resumed.len())), "{} steps resumed", resumed.len());
    assert_eq!(resumed, whole[30 - resumed.len()..]);
}

/// Kills a run 40 times, or `TENON_KILLS` times, in its steps and in its saves, and goes on from
/// where it was: no loss it ever tells differs from the uninterrupted run's.
#[test]
fn runs_killed_at_any_moment_lose_nothing() {
    let folder = folder("killed-often");
    let options = "train --batch 1 --seq 16 --steps 400 --threads 1 --json";
    let whole = losses(&tenon(&folder, options));
    let start = Instant::now();
    tenon(&folder, "train --batch 1 --seq 16 --steps 20 --save timed.ckpt --save-every 1");
    let longest = start.elapsed();
    let (mut state, mut told, mut furthest) = (1u32, 0, 0);
    let kills = std::env::var("TENON_KILLS").map_or(40, |kills| kills.parse().unwrap());
    for _ in 0..kills {
        let saved = folder.join("run.ckpt").exists();
        let mut run = Command::new(TENON)
            .args(options.split_whitespace())
            .args(["--save", "run.ckpt", "--save-every", "1"])
            .args(if saved { ["--resume", "run.ckpt"].as_slice() } else { &[] })
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        std::thread::sleep(longest.mul_f64(f64::from(state) / f64::from(u32::MAX)));
        run.kill().unwrap();
        let output = run.wait_with_output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        // The last line may be cut off.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line: Value = serde_json::from_str(line).unwrap();
            if line.get("summary").is_some() {
                fs::remove_file(folder.join("run.ckpt")).unwrap();
                fs::remove_file(folder.join("run.ckpt.previous")).unwrap();
                continue;
            }
            let (step, loss) = loss(&line);
            assert_eq!(whole[step as usize - 1], (step, loss));
            (told, furthest) = (told + 1, furthest.max(step));
        }
    }
    assert!(told > kills && furthest > 20, "{told} steps, up to {furthest}");
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let folder = folder("damaged");
    let options = "train --batch 1 --seq 16 --steps 9 --json";
    let whole = losses(&tenon(&folder, options));
    let saving = "train --batch 1 --seq 16 --steps 6 --save run.ckpt --save-every 2 --json";
    assert!(tenon(&folder, saving).status.success());
    let path = folder.join("run.ckpt");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    // The last save is of step 6, made twice; the one before it is whole.
    let output = tenon(&folder, &format!("{options} --resume run.ckpt"));
    let resumed = losses(&output);
    assert_eq!(resumed, whole[9 - resumed.len()..]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("checksum") && told.contains("the save before it"), "{told}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_keeps_the_checkpoint_that_was() {
    let folder = folder("full");
    let options = "train --batch 1 --seq 16 --save run.ckpt --steps";
    assert!(tenon(&folder, &format!("{options} 2")).status.success());
    let before = fs::read(folder.join("run.ckpt")).unwrap();
    // Files may grow to 64 blocks of 512 bytes, a checkpoint is larger.
    let limited = format!("trap '' XFSZ; ulimit -f 64; exec {TENON} {options} 3 --resume run.ckpt");
    let output = Command::new("sh").args(["-c", &limited]).current_dir(&folder).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.lines().any(|line| line.starts_with("error: run.ckpt: ")), "{told}");
    assert_eq!(fs::read(folder.join("run.ckpt")).unwrap(), before);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_what_differs() {
    let folder = folder("another");
    fs::write(folder.join("other.txt"), "other words, many of them. ".repeat(20)).unwrap();
    let saved = tenon(&folder, "train --steps 1 --seq 16 --save a.ckpt --json");
    assert!(saved.status.success());
    let told = mistake(&folder, "train --seq 16 --resume a.ckpt --lr 0.5 --seed 3");
    assert!(told.contains("--lr 0.003 (now 0.5)") && told.contains("--seed 0 (now 3)"), "{told}");
    assert!(!told.contains("--seq"), "{told}");
    let told = mistake(&folder, "train --seq 16 --resume a.ckpt --text other.txt");
    assert!(told.contains("--text"), "{told}");
}

#[test]
fn mistakes_are_told_in_one_line_with_their_mend() {
    let folder = folder("mistakes");
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    write("empty.txt", b"");
    write("short.txt", b"three");
    write("binary.txt", &[0xff, 0xfe]);
    write("junk.gguf", b"not a model");
    write("mamba.gguf", &gguf("mamba", [4, 4]));
    write("huge.gguf", &gguf("llama", [1 << 40, 1 << 40]));
    write("beyond.gguf", &gguf("llama", [1 << 20, 1 << 10]));
    write("cut.gguf", &gguf("llama", [4, 4])[..70]);
    for (arguments, part) in [
        ("train --text empty.txt", "is empty; give a file with text"),
        ("train --text short.txt", "has 5 tokens, too few for sequences of 128"),
        ("train --text short.txt", "or --seq 4"),
        ("train --text binary.txt", "not UTF-8"),
        ("train --text none.txt", "none.txt"),
        ("train --lora 0", "rank of 0"),
        ("train --lora-targets nose_proj --lora 2", "there are q_proj"),
        ("train --lora 2 --full", "--full"),
        ("train --seq 0", "from 1 up"),
        ("train --threads 0", "from 1 up"),
        ("train --lr -1", "--lr must be a number above 0"),
        ("train --lr nan", "--lr must be a number above 0"),
        ("train --clip 0", "--clip must be a number above 0"),
        ("train --memory-budget 1M", "the smallest that can is"),
        ("train --memory-budget 5x", "write 300M or 2G"),
        ("train --nonsense", "see `tenon help`"),
        ("train --resume short.txt", "not a whole checkpoint"),
        ("train --save nowhere/x", "give --save a path"),
        ("train --save .", "give --save a path"),
        ("train --text short.txt --save short.txt", "would overwrite --text"),
        ("train --model none.gguf", "none.gguf"),
        ("train --model junk.gguf", "does not begin with `GGUF`"),
        ("train --model mamba.gguf", "mamba"),
        ("train --model cut.gguf", "download it again"),
        ("train --model beyond.gguf", "is truncated"),
        ("plan --model huge.gguf", "huge.gguf"),
        ("info --model huge.gguf", "huge.gguf"),
        ("plan --svg nowhere/x.svg", "nowhere/x.svg"),
    ] {
        let told = mistake(&folder, arguments);
        assert!(told.contains(part), "{arguments}: {told}");
    }
    assert_eq!(fs::read(folder.join("short.txt")).unwrap(), b"three");
}

#[test]
fn a_read_only_place_is_not_written() {
    let folder = folder("read-only");
    let (file, inner) = (folder.join("kept.ckpt"), folder.join("inner"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&inner).unwrap();
    for path in [&file, &inner] {
        let mut permissions = fs::metadata(path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(path, permissions).unwrap();
    }
    assert!(mistake(&folder, "train --steps 1 --save kept.ckpt").contains("read-only"));
    assert!(mistake(&folder, "train --steps 1 --save inner/x").contains("read-only"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
}

#[test]
fn the_page_of_a_plan_shows_what_it_promises() {
    let folder = folder("page");
    let plan =
        objects(&tenon(&folder, "plan --seq 32 --batch 2 --html page.html --json"))[0].clone();
    let page = fs::read_to_string(folder.join("page.html")).unwrap();
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (3, 3));
    assert!(page.matches("<circle").count() >= 3 * 5 && page.matches("<rect").count() > 100);
    assert!(!page.contains("NaN") && !page.contains("http://www.w3.org/1"));
    let again = format!("{} nodes run twice", plan["recomputed_nodes"]);
    assert!(page.contains(&again), "{again}");
}

#[test]
fn a_plan_is_what_training_takes() {
    let folder = folder("plan");
    let plan =
        &objects(&tenon(&folder, "plan --threads 1 --json --svg a.svg --dot a.dot --dump a.txt"))
            [0];
    let trained = objects(&tenon(&folder, "train --threads 1 --steps 1 --json"));
    assert_eq!(plan["planned_peak_bytes"], trained[1]["planned_peak_bytes"]);
    assert!(plan["lower_bound_bytes"].as_u64() <= plan["planned_peak_bytes"].as_u64());
    assert!(plan["nodes"].as_u64().unwrap() > 100 && plan["plan_ms"].as_f64().unwrap() > 0.0);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(read("a.svg").starts_with("<svg") && read("a.svg").trim_end().ends_with("</svg>"));
    assert!(read("a.dot").starts_with("digraph"));
    assert!(read("a.txt").contains("output loss = "));
}

#[test]
fn info_names_what_there_is() {
    let folder = folder("info");
    let info = &objects(&tenon(&folder, "info --json"))[0];
    let has = |name: &str, part: &str| info[name].as_array().unwrap().iter().any(|v| v == part);
    assert!(has("levels", "portable") && has("weight_formats", "q4_1"), "{info}");
    assert!(has("ops", "rms_norm") && !has("ops", "rms"), "{info}");
    // What is not there says why.
    for backend in ["cpu", "vulkan"] {
        assert!(info[backend].as_str().is_some_and(|text| text.len() > 8), "{info}");
    }
}

#[test]
fn a_check_counts_every_comparison() {
    let folder = folder("check");
    let lines = objects(&tenon(&folder, "check --json softmax"));
    let (sum, rows) = lines.split_last().unwrap();
    let total = |key: &str| rows.iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>();
    assert!(sum["passed"].as_u64().unwrap() > 20 && sum["failed"] == 0, "{sum}");
    for key in ["passed", "failed", "skipped"] {
        assert_eq!(sum[key], total(key));
    }
    assert!(rows.iter().any(|row| row["op"] == "softmax_grad" && row["level"] == "portable"));
    let table = String::from_utf8(tenon(&folder, "check --isa portable rope").stdout).unwrap();
    assert!(table.contains("rope ") && table.contains(" 0 wrong"), "{table}");
    assert!(mistake(&folder, "check nothing").contains("no op's name contains `nothing`"));
    assert!(
        mistake(&folder, "check --isa mmx").contains("no level `mmx` here; there are portable")
    );
    assert!(mistake(&folder, "check --backend tpu").contains("no such backend here; there is cpu"));
}

/// What it says of speed is not for a test to judge.
#[test]
fn a_bench_has_rows_and_a_page() {
    let folder = folder("bench");
    let steps = objects(&tenon(&folder, "bench --time 0.2 --json f512"));
    assert!(steps.iter().any(|row| row["kernel"] == "step" && row["per_second"].is_f64()));
    let lines =
        objects(&tenon(&folder, "bench --time 0.5 --json --html page.html --soak 0.1 softmax"));
    assert!(lines[0]["machine"]["levels"].is_array() && lines[1]["peaks"]["f32_gflops"].is_f64());
    let rows: Vec<_> = lines.iter().filter(|line| line.get("kernel").is_some()).collect();
    assert_eq!(rows.len(), 4, "softmax, log_softmax, and their gradients");
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or(f64::NAN);
    for row in &rows {
        assert!(number(row, "median_s") >= number(row, "best_s") && number(row, "gbps") > 0.0);
        assert!(number(row, "samples") >= 3.0 && number(row, "allocated_bytes") > 0.0, "{row}");
        assert!(number(row, "fraction_of_peak") > 0.0, "{row}");
    }
    assert!(!lines.last().unwrap()["soak"]["points"].as_array().unwrap().is_empty());
    let page = fs::read_to_string(folder.join("page.html")).unwrap();
    let dots = rows.iter().filter(|row| number(row, "gflops") > 0.0).count();
    assert_eq!(page.matches("tabindex=\"0\"><title>").count(), dots);
    assert_eq!(page.matches("<tr><td>").count() + page.matches("<tr class").count(), rows.len());
    let loads = ["src=\"http", "href=\"http", "url(", "@import"];
    assert!(!loads.iter().any(|from| page.contains(from)), "it must need no network");
    assert!(mistake(&folder, "bench zzz").contains("nothing to time has `zzz`"));
    assert!(mistake(&folder, "bench --time 0").contains("--time takes seconds"));
}

#[test]
fn runs_are_compared_row_by_row() {
    let folder = folder("compare");
    let row = |kernel: &str, seconds: f64| {
        let text = "\"shape\":\"8\",\"dtype\":\"f32\",\"isa\":\"avx2\",\"backend\":\"cpu\"";
        format!("{{\"kernel\":\"{kernel}\",{text},\"median_s\":{seconds},\"spread\":0.01}}\n")
    };
    let before = row("exp", 1.0) + &row("log", 1.0) + &row("gone", 1.0) + "{\"machine\":{}}\n";
    fs::write(folder.join("a.json"), before).unwrap();
    fs::write(folder.join("b.json"), row("exp", 1.15) + &row("log", 1.01)).unwrap();
    let lines = objects(&tenon(&folder, "bench compare a.json b.json --json"));
    assert_eq!(lines[0]["kernel"], "exp");
    assert!((lines[0]["ratio"].as_f64().unwrap() - 1.15).abs() < 1e-9);
    let counts = &lines[1];
    assert_eq!((counts["slower"].as_u64(), counts["same"].as_u64()), (Some(1), Some(1)));
    assert_eq!(counts["only_before"], 1);
    fs::write(folder.join("c.json"), "{\"kernel\":3").unwrap();
    assert!(mistake(&folder, "bench compare a.json c.json").contains("c.json, line 1"));
    assert!(mistake(&folder, "bench compare a.json d.json").contains("cannot read d.json"));
}
