// Shows that ThreadSanitizer sees what it should, and no more: `tools/sanitize thread` runs it first.
//
//   probe                      two threads count under a lock: no race
//   probe beside|escaped|two   a race: beside the lock; in what the lock let out; under a lock of each thread's own

import Glibc
import Synchronization

final class Counter: @unchecked Sendable {
    var value = 0
}

final class Scene: Sendable {
    let guarded = Mutex(Counter())
    let first = Mutex(())
    let second = Mutex(())
    let plain = Counter()

    func work(_ race: String?, isSecond: Bool) {
        for _ in 0..<100_000 {
            guarded.withLock { $0.value += 1 }
            switch race {
            case "beside": plain.value += 1
            case "escaped": guarded.withLock { $0 }.value += 1
            case "two":
                if isSecond {
                    second.withLock { _ in plain.value += 1 }
                } else {
                    first.withLock { _ in plain.value += 1 }
                }
            default: break
            }
        }
    }
}

let scene = Scene()
let race = CommandLine.arguments.dropFirst().first

nonisolated func workBeside(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    scene.work(race, isSecond: true)
    return nil
}

@main
enum Probe {
    static func main() {
        var thread = pthread_t()
        let code = pthread_create(&thread, nil, workBeside, nil)
        precondition(code == 0)
        scene.work(race, isSecond: false)
        pthread_join(thread, nil)
        precondition(race == "escaped" || scene.guarded.withLock { $0.value } == 200_000)
    }
}
