package delta

import "context"

// The dictionary is part of the format: change nothing here.
const (
	maxDictionary = 4 << 20
	dictMargin    = 128     // bytes of the source around what a gap stands for
	dictReplaced  = 4 << 10 // bytes of the source that a gap stands for at most, when it has less itself
)

// dictionary is what the literals are compressed with: those bytes of the source
// that stand where the literals go. What was edited looks like what it was.
func dictionary(ctx context.Context, src *pages, r *rounds) ([]byte, error) {
	var dict []byte
	var first, last int64 // of the source, as far as the end of dict is a run of it
	for i := 0; r.left > 0 && len(dict) < maxDictionary; i++ {
		if i%roundsBetween == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		o, err := r.next()
		if err != nil {
			return nil, err
		}
		if o.gap == 0 || o.differ {
			continue
		}
		from, to := o.at-dictMargin, o.at+o.gap
		if o.from > to && o.from <= o.at+dictReplaced {
			to = o.from
		}
		from, to = max(from, 0), min(to+dictMargin, src.size)
		switch {
		case to <= from:
			continue
		case first <= from && from <= last:
			if to <= last {
				continue
			}
			from = last
		default:
			first = from
		}
		last = to
		have := len(dict)
		dict = append(dict, make([]byte, min(to-from, int64(maxDictionary-have)))...)
		if err := src.read(from, dict[have:]); err != nil {
			return nil, err
		}
	}
	return dict, nil
}
