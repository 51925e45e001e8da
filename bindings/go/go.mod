module dsrt

go 1.19
