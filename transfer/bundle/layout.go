package bundle

import "fmt"

const (
	// HeaderSize is the length of the text at the head of each volume.
	HeaderSize = 4096
	// BlockSize is how much data stands under one sum.
	BlockSize = 64 << 10
	// DefaultVolumeSize is 3.9 GiB: FAT32 takes no file of 4 GiB.
	DefaultVolumeSize = 39 << 30 / 10
	// MinVolumeSize is the smallest volume size a writer takes.
	MinVolumeSize = 1 << 20
	// MaxVolumeSize bounds the sums of one volume, which readers and writers
	// hold in memory, to 8 MiB.
	MaxVolumeSize = 64 << 30
	// MaxVolumes is the largest number of volumes of a bundle.
	MaxVolumes = 99_999

	// maxExact is the largest integer that every JSON reader keeps exactly.
	maxExact = 1<<53 - 1
)

// VolumeRange is the part of the payload that one volume holds. With parity,
// volumes hold shards from all over it: Offset is 0 and Length counts them all.
type VolumeRange struct {
	Offset   int64 // where it begins in the payload
	Length   int64 // bytes of payload
	FileSize int64 // bytes of the file, with header and trailer
}

// Layout says how a payload lies over volumes.
type Layout struct {
	Volumes  []VolumeRange
	Total    int64    // bytes on the medium
	Geometry Geometry // zero without parity
}

// Spare is how many volumes, whichever, may be lost.
func (l Layout) Spare() int {
	if l.Geometry == (Geometry{}) {
		return 0
	}
	return l.Geometry.Parity / (l.Geometry.shards() / len(l.Volumes))
}

// Plan lays a payload of the given length over volumes whose files are not
// larger than volumeSize; 0 means DefaultVolumeSize.
func Plan(payload, volumeSize int64) (Layout, error) {
	volumeSize, err := checkSizes(payload, volumeSize)
	if err != nil {
		return Layout{}, err
	}
	capacity := payload
	if payload > volumeSize || fileSize(payload) > volumeSize {
		capacity = (volumeSize - fileSize(0)) / (BlockSize + sumSize) * BlockSize
	}
	count := ceilDiv(payload, capacity)
	if count > MaxVolumes {
		return Layout{}, fmt.Errorf("plan volumes: %d bytes in volumes of %d would make %d volumes, more than %d; choose a larger volume size",
			payload, volumeSize, count, MaxVolumes)
	}
	layout := Layout{Volumes: make([]VolumeRange, count)}
	for i := range layout.Volumes {
		offset := int64(i) * capacity
		length := min(capacity, payload-offset)
		layout.Volumes[i] = VolumeRange{Offset: offset, Length: length, FileSize: fileSize(length)}
		layout.Total += fileSize(length)
	}
	return layout, nil
}

// checkSizes returns the volume size that is meant.
func checkSizes(payload, volumeSize int64) (int64, error) {
	if volumeSize == 0 {
		volumeSize = DefaultVolumeSize
	}
	if volumeSize < MinVolumeSize || volumeSize > MaxVolumeSize {
		return 0, fmt.Errorf("plan volumes: a volume size of %d bytes is not between %d (1 MiB) and %d (64 GiB)",
			volumeSize, int64(MinVolumeSize), int64(MaxVolumeSize))
	}
	if payload < 1 || payload > maxExact {
		return 0, fmt.Errorf("plan volumes: a payload of %d bytes is not between 1 and %d", payload, int64(maxExact))
	}
	return volumeSize, nil
}

// fileSize is the size of a volume's file that holds length bytes of data.
func fileSize(length int64) int64 {
	return HeaderSize + length + trailerSize(length)
}

func blockCount(length int64) int64 { return ceilDiv(length, BlockSize) }

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
