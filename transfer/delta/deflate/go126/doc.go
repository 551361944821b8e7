// Package go126 is the encoder of compress/flate as of Go 1.26.0, kept as it was:
// a copy without the decoder, under the licence beside it. A stream that a Go
// program of those years wrote is made again by it, bit for bit, so nothing that
// it writes may ever change.
package go126
