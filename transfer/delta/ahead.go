package delta

import (
	"context"
	"sync"
)

// ahead does the work on things that come one after another before their turn,
// several at once. What is waiting costs a bounded amount of memory.
//
//	for i := range n { result, ok, err := a.take(i) }   // in order
//	a.stop()                                            // always
type ahead[T any] struct {
	ctx    context.Context
	cancel context.CancelFunc
	n      int
	cost   func(i int) int64 // in bytes; negative: not to be done ahead
	work   func(ctx context.Context, i int) (T, error)

	sem     chan struct{}
	wg      sync.WaitGroup
	next    int
	waiting map[int]chan outcome[T]
	held    int64
}

type outcome[T any] struct {
	value T
	err   error
}

const (
	aheadBytes = 16 << 20
	aheadCount = 64
)

func newAhead[T any](ctx context.Context, workers, n int, cost func(int) int64, work func(context.Context, int) (T, error)) *ahead[T] {
	ctx, cancel := context.WithCancel(ctx)
	return &ahead[T]{ctx: ctx, cancel: cancel, n: n, cost: cost, work: work,
		sem: make(chan struct{}, workers), waiting: map[int]chan outcome[T]{}}
}

// take returns what came of i. ok is false when it was not done ahead.
func (a *ahead[T]) take(i int) (value T, ok bool, err error) {
	a.next = max(a.next, i)
	for a.next < a.n {
		c := a.cost(a.next)
		if c < 0 {
			a.next++
			continue
		}
		if len(a.waiting) > 0 && (a.held+c > aheadBytes || len(a.waiting) >= aheadCount) {
			break
		}
		a.start(a.next, c)
		a.next++
	}
	done := a.waiting[i]
	if done == nil {
		return value, false, nil
	}
	o := <-done
	delete(a.waiting, i)
	a.held -= a.cost(i)
	return o.value, true, o.err
}

func (a *ahead[T]) start(i int, cost int64) {
	done := make(chan outcome[T], 1)
	a.waiting[i] = done
	a.held += cost
	a.wg.Go(func() {
		a.sem <- struct{}{}
		defer func() { <-a.sem }()
		var o outcome[T]
		if o.err = a.ctx.Err(); o.err == nil {
			o.value, o.err = a.work(a.ctx, i)
		}
		done <- o
	})
}

// stop ends what is under way and waits for it.
func (a *ahead[T]) stop() {
	a.cancel()
	a.wg.Wait()
}
