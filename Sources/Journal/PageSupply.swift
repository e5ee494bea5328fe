import IngestCore

/// Decides how large an entry may be, so that the file's free pages can hold it.
///
/// LMDB keeps a large value on pages that follow each other. Each commit also frees a few single pages, the old copies of
/// the tables' inner ones. While the space of a drained backlog is used again these pile up between the entries: free,
/// but too scattered for a large value. For each such value LMDB then merges and searches the lists of all of them
/// (mdb_page_alloc in mdb.c, 0.9.24) and puts the value at the file's end after all: a second backlog would make each
/// commit slower than the one before it, and the file larger than the events in it. So from the first value that lands
/// there for no want of free pages, entries are small enough for one page, until the scattered pages are used up.
struct PageSupply {
    /// So many free pages are worth the smaller entries. Some are always free: what the last commits left.
    private static let worthUsing = 512

    private let pageSize: Int
    /// Scattered pages that entries go to; 0 while entries may be large.
    private var scatteredPages = 0
    /// Pages that an entry takes at most while there are any.
    private var entryPages = 1

    init(pageSize: Int) { self.pageSize = pageSize }

    /// Bytes of records that an entry may have; a larger event still gets an entry of its own.
    func recordBytes(_ origin: EventOrigin) -> Int {
        guard scatteredPages > 0 else { return Limits.entryBytes }
        return entryPages * pageSize - OverflowHeader.length - EntryView.headerLength
            - EntryView.sourceLength(of: origin)
    }

    /// Notes that the file could not become larger, so that the pieces that are free in it have to do. How large they are
    /// is not known: the entries of each further attempt are a quarter as long. After one page it begins anew, because
    /// short entries waste the end of their last page.
    /// - Parameter freePages: pages of the file that are free.
    mutating func noteNoRoom(freePages: Int) {
        let tried = scatteredPages > 0 ? entryPages : 1
        entryPages = tried > 1 ? tried / 4 : Limits.entryBytes / 4 / pageSize
        scatteredPages = freePages
    }

    /// Notes where an entry went that was written now.
    /// - Parameters:
    ///   - fileEnd: number of pages that the file had when the transaction began.
    ///   - heldPages: pages of the file that are not free.
    mutating func noteEntry(
        _ entry: UnsafeRawBufferPointer, fileEnd: Int, heldPages: () throws -> Int
    ) rethrows {
        let pageCount = JournalFormat.storedLength(entry.count, pageSize: pageSize) / pageSize
        if scatteredPages > 0 {
            scatteredPages = max(0, scatteredPages - max(1, pageCount))
        } else if pageCount > 1 {
            let first = OverflowHeader.firstPage(of: entry)
            guard first >= fileEnd else { return }
            // It is the file's last.
            let free = first + pageCount - (try heldPages())
            if free >= Self.worthUsing { (scatteredPages, entryPages) = (free, 1) }
        }
    }
}
