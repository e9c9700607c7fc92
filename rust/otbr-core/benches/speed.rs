//! Times of the parts, by criterion: `cargo bench --bench speed`.

mod cases;

use criterion::{Criterion, criterion_group, criterion_main};

fn parts(criterion: &mut Criterion) {
    for name in cases::names() {
        let mut run = cases::case(name).expect("a name of the list");
        criterion.bench_function(name, |bencher| bencher.iter(&mut run));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = parts
}
criterion_main!(benches);
