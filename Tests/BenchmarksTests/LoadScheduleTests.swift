import Testing

@testable import Benchmarks

@Suite struct LoadScheduleTests {
    private func times(_ schedule: LoadSchedule) -> [UInt64] {
        var schedule = schedule
        var times: [UInt64] = []
        while let time = schedule.take(at: .max) { times.append(time) }
        return times
    }

    @Test func requestsAreEvenlySpread() {
        let schedule = LoadSchedule(start: 5_000, rate: 1_000, seconds: 0.01, worker: 0, of: 1)
        #expect(times(schedule) == (0..<10).map { 5_000 + $0 * 1_000_000 })
    }

    @Test func workersShareOneSchedule() {
        let whole = LoadSchedule(start: 0, rate: 333, seconds: 2, worker: 0, of: 1)
        let parts = (0..<3).map { LoadSchedule(start: 0, rate: 333, seconds: 2, worker: $0, of: 3) }
        #expect(times(whole).count == 666)
        #expect(parts.flatMap(times).sorted() == times(whole))
    }

    @Test func nothingIsTakenBeforeItsTimeAndNothingIsLeftOutWhenLate() {
        var schedule = LoadSchedule(start: 100, rate: 1_000, seconds: 1, worker: 0, of: 1)
        #expect(schedule.take(at: 99) == nil)
        #expect(schedule.take(at: 100) == 100)
        #expect(schedule.take(at: 101) == nil)
        // The service was silent for 5 ms: what was due meanwhile keeps its times.
        let late = 100 + 5_000_000 as UInt64
        var taken: [UInt64] = []
        while let time = schedule.take(at: late) { taken.append(time) }
        #expect(taken == (1...5).map { 100 + $0 * 1_000_000 })
    }
}
