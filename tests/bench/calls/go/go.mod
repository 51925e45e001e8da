module calls

go 1.19

require dsrt v0.1.0

replace dsrt => ../../../../bindings/go
