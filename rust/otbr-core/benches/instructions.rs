//! Runs one part once, for `benches/instructions.py` to count its instructions under valgrind. Lists
//! the parts when it is not told which.

mod cases;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    match arguments.first() {
        None => cases::names().for_each(|name| println!("{name}")),
        Some(name) => {
            let mut run = cases::case(name).expect("one of the names that are listed");
            run(); // What is done once a process is no part of it.
            counted(&mut *run);
        }
    }
}

/// Valgrind counts between entering and leaving this.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
    std::hint::black_box(());
}
