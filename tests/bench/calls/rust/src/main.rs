fn main() -> dsrt::Result<()> {
    let engine = dsrt::Engine::new("examples/first/config.json")?;
    let mut best = f64::MAX;
    for _ in 0..20 {
        let begin = std::time::Instant::now();
        for _ in 0..20000 {
            engine.metric("global_steps")?;
        }
        best = best.min(begin.elapsed().as_nanos() as f64 / 20000.0);
    }
    println!("{:.0}", best);
    Ok(())
}
