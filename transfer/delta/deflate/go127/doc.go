// Package go127 is the encoder of compress/flate as of Go 1.27.3, kept as it was:
// a copy without the decoder and what is not used, under the licence beside it.
// It descends from klauspost/compress/flate and writes the same as that as of
// 1.18.6; Full makes it write as klauspost's from 1.16 to 1.18.0. A stream that
// a program of those years wrote is made again by it, bit for bit, so nothing
// that it writes may ever change.
package go127
