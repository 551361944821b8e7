package bucket

const openNonblock = 0
