package main

import (
	"fmt"
	"time"

	"dsrt"
)

func main() {
	engine, err := dsrt.NewEngine("examples/first/config.json")
	if err != nil {
		panic(err)
	}
	best := 1e18
	for round := 0; round < 20; round++ {
		begin := time.Now()
		for i := 0; i < 20000; i++ {
			engine.Metric("global_steps")
		}
		if spent := float64(time.Since(begin).Nanoseconds()) / 20000; spent < best {
			best = spent
		}
	}
	fmt.Printf("%.0f\n", best)
}
